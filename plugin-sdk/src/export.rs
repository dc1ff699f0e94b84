//! From a [`Plugin`] to the exports of ABI version 1.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt;

use crate::saved::to_json;
use crate::{
    Access, Error, Exported, MsrIndex, Older, Otherwise, Persist, Plugin, Reason, Report, Reset,
    Saved, Setup, Timer, VcpuId, abi, log, raw,
};

/// Makes the crate a plugin: `export!(MyPlugin);`, once, in a crate of type
/// `cdylib`. A plugin with hooks names them, as in
/// `export!(MyPlugin: Reset, Persist);`.
///
/// The file `plugin.toml` beside the crate's `Cargo.toml` becomes the custom
/// section `wasmsr.manifest`.
///
/// On a target other than Wasm nothing is exported, but a missing manifest or
/// hook is an error there too.
#[macro_export]
macro_rules! export {
    ($plugin:ty $(: $($hook:ident),+ $(,)?)?) => {
        const _: () = {
            // Without `#[used]`, which would keep a copy in the module's memory.
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "wasmsr.manifest"))]
            static _MANIFEST: [u8; $crate::__manifest!().len()] = *$crate::__manifest!();

            const fn check<P: $crate::Plugin $($(+ $crate::$hook)+)?>() {}
            check::<$plugin>();

            impl $crate::Exported for $plugin {
                const VERSION: $crate::Version = $crate::manifest::version($crate::__manifest!());
            }

            #[cfg(target_arch = "wasm32")]
            static INSTANCE: $crate::export::Instance<$plugin> = $crate::export::Instance::new();

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn wasmsr_abi_v1() {}

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn init(vcpu: u32) -> u32 {
                INSTANCE.init(vcpu)
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn rdmsr(index: u32, vcpu: u32, reason: u32) -> u64 {
                INSTANCE.rdmsr(index, vcpu, reason)
            }

            #[cfg(target_arch = "wasm32")]
            #[unsafe(no_mangle)]
            extern "C" fn wrmsr(index: u32, value: u64, vcpu: u32, reason: u32) {
                INSTANCE.wrmsr(index, value, vcpu, reason)
            }

            $($($crate::__export_hook!($hook);)+)?
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __manifest {
    () => {
        ::core::include_bytes!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/plugin.toml"))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (Reset) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn reset() {
            INSTANCE.reset()
        }
    };
    (Persist) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn save() -> u32 {
            INSTANCE.save()
        }

        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn restore() -> u32 {
            INSTANCE.restore()
        }
    };
    (Versioned) => {
        $crate::__export_hook!(Persist);
    };
    (Report) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn report() {
            INSTANCE.report()
        }
    };
    (Timer) => {
        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn timer() {
            INSTANCE.timer()
        }
    };
}

/// The one instance of a plugin in its module, once `init` has made it.
pub struct Instance<P>(Cell<Option<Box<P>>>);

#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[expect(unsafe_code, reason = "a static must be Sync, even where there are no threads")]
// SAFETY: a Wasm module without atomics runs on one thread at a time.
unsafe impl<P> Sync for Instance<P> {}

impl<P> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for Instance<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl<P> Instance<P> {
    /// Before `init`.
    pub const fn new() -> Self {
        Instance(Cell::new(None))
    }

    /// The cell is empty during a call. So a host that breaks the ABI, by a
    /// call during a call or before `init`, causes a trap.
    #[expect(clippy::expect_used, reason = "a trap is what the ABI has for a broken host")]
    fn with<R>(&self, call: impl FnOnce(&mut P) -> R) -> R {
        let mut plugin = self.0.take().expect("called while another call runs, or before init");
        let result = call(&mut plugin);
        self.0.set(Some(plugin));
        result
    }
}

impl<P: Plugin> Instance<P> {
    /// Export `init`.
    pub fn init(&self, vcpu: u32) -> u32 {
        let vcpu = (vcpu != abi::NO_VCPU).then_some(VcpuId(vcpu));
        status(make(vcpu).map(|plugin| self.0.set(Some(Box::new(plugin)))))
    }

    /// Export `rdmsr`.
    pub fn rdmsr(&self, index: u32, vcpu: u32, reason: u32) -> u64 {
        let access = access(index, vcpu, reason);
        self.with(|plugin| plugin.rdmsr(access)).unwrap_or_else(|otherwise| {
            decline(otherwise);
            0
        })
    }

    /// Export `wrmsr`.
    pub fn wrmsr(&self, index: u32, value: u64, vcpu: u32, reason: u32) {
        let access = access(index, vcpu, reason);
        self.with(|plugin| plugin.wrmsr(access, value)).unwrap_or_else(decline);
    }
}

impl<P: Reset> Instance<P> {
    /// Export `reset`.
    pub fn reset(&self) {
        self.with(P::reset);
    }
}

impl<P: Persist + Exported> Instance<P> {
    /// Export `save`.
    pub fn save(&self) -> u32 {
        let older = text(raw::save_version);
        let state = self.with(|plugin| match older.is_empty() {
            true => save(plugin),
            false => save_for(plugin, older),
        });
        status(state.and_then(|state| match raw::save_state(&state) {
            abi::OK => Ok(()),
            _ => Err(Error::new(format_args!(
                "a state of {} bytes is more than the host keeps",
                state.len(),
            ))),
        }))
    }

    /// Export `restore`.
    pub fn restore(&self) -> u32 {
        let state = fetch(raw::saved_state);
        let version = text(raw::saved_version);
        status(self.with(|plugin| plugin.restore(&Saved::new(state, version))))
    }
}

impl<P: Timer> Instance<P> {
    /// Export `timer`.
    pub fn timer(&self) {
        self.with(P::timer);
    }
}

impl<P: Report> Instance<P> {
    /// Export `report`.
    pub fn report(&self) {
        let text = self.with(|plugin| plugin.report());
        if !text.is_empty() {
            raw::report_text(&text);
        }
    }
}

/// A plugin from the configuration that the host holds.
pub(crate) fn make<P: Plugin>(vcpu: Option<VcpuId>) -> Result<P, Error> {
    let setup = Setup::new(vcpu, fetch(raw::config));
    let plugin = P::new(&setup)?;
    setup.check_unread()?;
    Ok(plugin)
}

/// A plugin's state, in the form in which the host keeps it.
pub(crate) fn save(plugin: &impl Persist) -> Result<Vec<u8>, Error> {
    to_json(&plugin.save())
}

/// The same for an older version of the plugin.
pub(crate) fn save_for<P: Persist + Exported>(plugin: &P, older: String) -> Result<Vec<u8>, Error> {
    plugin.save_for(&Older::new(older, P::VERSION)?)
}

fn access(index: u32, vcpu: u32, reason: u32) -> Access {
    Access::new(MsrIndex(index), VcpuId(vcpu), Reason::from_abi(reason))
}

fn decline(otherwise: Otherwise) {
    raw::outcome(otherwise as u32);
}

/// The host shows the last error line as the reason of a refusal.
fn status(result: Result<(), Error>) -> u32 {
    match result {
        Ok(()) => abi::DONE,
        Err(error) => {
            log::error!("{error}");
            abi::REFUSED
        }
    }
}

/// The whole result of a host call that copies as much as fits and returns the
/// length of the whole.
fn fetch(call: fn(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0; call(&mut [])];
    call(&mut bytes);
    bytes
}

/// Such a result as text.
fn text(call: fn(&mut [u8]) -> usize) -> String {
    String::from_utf8_lossy(&fetch(call)).into_owned()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use serde::Serialize;

    use super::*;
    use crate::Version;
    use crate::log::Level;
    use crate::native::Host;

    /// Answers with the last value written, if there is one.
    struct Latch {
        vcpu: Option<VcpuId>,
        value: Option<u64>,
    }

    impl Plugin for Latch {
        fn new(setup: &Setup) -> Result<Self, Error> {
            Ok(Latch { vcpu: setup.vcpu(), value: None })
        }

        fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
            assert_eq!(self.vcpu, Some(access.vcpu));
            self.value.ok_or(Otherwise::Pass)
        }

        fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
            match access.reason {
                Reason::Filter => self.value = Some(value),
                _ => return Err(Otherwise::Kernel),
            }
            Ok(())
        }
    }

    impl Reset for Latch {
        fn reset(&mut self) {
            self.value = None;
        }
    }

    impl Persist for Latch {
        fn save(&self) -> impl Serialize {
            self.value
        }

        fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
            if saved.version() != "1.0.0" {
                return Err(Error::new("only version 1.0.0 is known"));
            }
            self.value = saved.state()?;
            Ok(())
        }
    }

    impl Exported for Latch {
        const VERSION: Version = Version(1, 0);
    }

    const FILTER: u32 = Reason::Filter as u32;
    const UNKNOWN: u32 = Reason::Unknown as u32;

    fn started(host: &Host) -> Instance<Latch> {
        host.set_config("{}");
        let latch = Instance::new();
        assert_eq!(latch.init(3), abi::DONE);
        latch
    }

    #[test]
    fn answers_and_refusals_cross_the_boundary() {
        let host = Host::fresh();
        let latch = started(&host);
        assert_eq!((latch.rdmsr(0x10, 3, FILTER), host.take_outcome()), (0, Some(2)));
        latch.wrmsr(0x10, u64::MAX, 3, FILTER);
        assert_eq!(host.take_outcome(), None);
        assert_eq!((latch.rdmsr(0x10, 3, FILTER), host.take_outcome()), (u64::MAX, None));
        latch.wrmsr(0x10, 0, 3, UNKNOWN);
        assert_eq!(host.take_outcome(), Some(3));
        latch.reset();
        assert_eq!((latch.rdmsr(0x10, 3, FILTER), host.take_outcome()), (0, Some(2)));
    }

    #[test]
    fn a_refused_configuration_is_logged() {
        let host = Host::fresh();
        host.set_config(r#"{"value": 1}"#);
        assert_eq!(Instance::<Latch>::new().init(abi::NO_VCPU), abi::REFUSED);
        let logged = host.logged();
        assert!(matches!(&logged[..], [(Level::Error, line)] if line.contains("no config")));
    }

    #[test]
    fn a_new_instance_takes_the_state_over() {
        let host = Host::fresh();
        host.set_saved_version("1.0.0");
        let old = started(&host);
        old.wrmsr(0x10, 7, 3, FILTER);
        assert_eq!(old.save(), abi::DONE);

        let new = started(&host);
        assert_eq!(new.restore(), abi::DONE);
        assert_eq!(new.rdmsr(0x10, 3, FILTER), 7);
    }

    #[test]
    fn a_state_is_written_for_an_older_version_with_the_same_numbers_only() {
        let host = Host::fresh();
        let latch = started(&host);
        host.set_save_version("1.0.0-rc.1");
        assert_eq!((latch.save(), host.logged().len()), (abi::DONE, 0));
        host.set_save_version("0.9.7");
        assert_eq!(latch.save(), abi::REFUSED);
        let logged = host.logged();
        let [(Level::Error, line)] = &logged[..] else { panic!("{logged:?}") };
        assert!(line.contains("this version 1.0") && line.contains("version 0.9.7"), "{line}");
    }

    #[test]
    fn a_state_that_does_not_fit_is_logged() {
        let host = Host::fresh();
        let latch = started(&host);
        assert_eq!(latch.save(), abi::DONE);
        host.set_saved_version("2.0.0");
        assert_eq!(latch.restore(), abi::REFUSED);
        assert_eq!(host.logged(), [(Level::Error, "only version 1.0.0 is known".to_string())]);
    }
}
