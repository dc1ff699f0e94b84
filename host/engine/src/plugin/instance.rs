//! One live plugin: an instance in a store of its own, and the limits around
//! every call into it.

use wasmsr_interface::{MsrAccess, MsrOp, VcpuId};
use wasmtime::{Store, TypedFunc};

use super::abi::NO_VCPU;
use super::answer::{Answer, Cause, Failure, InstanceError};
use super::log::Log;
use super::module::Plugin;
use super::store::{Phase, StoreData, Surroundings, failure};
use crate::limits;
use crate::state::InstanceState;

/// A live plugin.
pub(crate) struct Instance {
    store: Store<StoreData>,
    fuel: u64,
    rdmsr: Option<TypedFunc<(u32, u32, u32), u64>>,
    wrmsr: Option<TypedFunc<(u32, u64, u32, u32), ()>>,
    lifecycle: Lifecycle,
}

/// A state as `save` wrote it.
pub(crate) struct Written {
    /// The version whose `restore` it is for: the plugin's own, or an older one for
    /// which it was asked and of which the plugin has taken notice.
    pub(crate) version: String,
    pub(crate) bytes: Vec<u8>,
}

/// The optional exports.
struct Lifecycle {
    reset: Option<TypedFunc<(), ()>>,
    save: Option<TypedFunc<(), i32>>,
    restore: Option<TypedFunc<(), i32>>,
    timer: Option<TypedFunc<(), ()>>,
    report: Option<TypedFunc<(), ()>>,
}

impl Instance {
    /// Instantiates and initialises `plugin`, for one vCPU or for the VM, while
    /// `vcpu` is served.
    pub(crate) fn new(
        plugin: &Plugin,
        vm: &Surroundings,
        log: &Log,
        scope: Option<VcpuId>,
        vcpu: VcpuId,
    ) -> Result<Self, InstanceError> {
        let data = StoreData::new(&plugin.description, vm, log, vcpu);
        let mut store = Store::new(plugin.linked.module().engine(), data);
        store.limiter(|data| data);
        let fuel = plugin.config.fuel;
        let lifecycle = fuel.saturating_mul(limits::LIFECYCLE_FUEL);
        refuel(&mut store, lifecycle);
        let instance = match plugin.linked.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                let failure = failure(&error, store.data_mut(), lifecycle);
                return Err(InstanceError::Instantiate(failure));
            }
        };
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().phase = Phase::Access;
        // The module was held against the ABI: what is missing is optional.
        let rdmsr = instance.get_typed_func(&mut store, "rdmsr").ok();
        let wrmsr = instance.get_typed_func(&mut store, "wrmsr").ok();
        let lifecycle = Lifecycle {
            reset: instance.get_typed_func(&mut store, "reset").ok(),
            save: instance.get_typed_func(&mut store, "save").ok(),
            restore: instance.get_typed_func(&mut store, "restore").ok(),
            timer: instance.get_typed_func(&mut store, "timer").ok(),
            report: instance.get_typed_func(&mut store, "report").ok(),
        };
        let init = instance.get_typed_func::<u32, i32>(&mut store, "init").ok();
        let mut instance = Instance { store, fuel, rdmsr, wrmsr, lifecycle };
        if let Some(init) = init {
            let number = scope.map_or(NO_VCPU, |vcpu| vcpu.0);
            let code = instance.enter(Phase::Lifecycle, vcpu, &init, number);
            match code.map_err(InstanceError::Init)? {
                0 => {}
                code => return Err(InstanceError::Refused(instance.why_refused("init", code))),
            }
        }
        instance.store.data_mut().say_last_error();
        Ok(instance)
    }

    /// Brings the plugin to its state after a reset of the guest; `false` if
    /// it has no `reset` of its own.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) -> Result<bool, Failure> {
        let Some(reset) = self.lifecycle.reset.clone() else { return Ok(false) };
        self.enter(Phase::Lifecycle, vcpu, &reset, ())?;
        self.store.data_mut().say_last_error();
        Ok(true)
    }

    /// What the plugin wants to keep; `None` if it keeps nothing. It is told of
    /// `for_version` if that is older than its own.
    pub(crate) fn save(
        &mut self,
        vcpu: VcpuId,
        for_version: Option<&str>,
    ) -> Result<Option<Written>, InstanceError> {
        let Some(save) = self.lifecycle.save.clone() else { return Ok(None) };
        let data = self.store.data_mut();
        data.saved.clear();
        let own = &data.plugin.manifest.plugin.version;
        data.saving_for = for_version.filter(|version| is_older(version, own)).map(str::to_owned);
        data.asked_for_version = false;
        let code = self.enter(Phase::Save, vcpu, &save, ()).map_err(InstanceError::Save);
        let data = self.store.data_mut();
        let saving_for = data.saving_for.take();
        let bytes = std::mem::take(&mut data.saved);
        let version = saving_for.filter(|_| data.asked_for_version);
        match code? {
            0 => Ok(Some(Written {
                version: version.unwrap_or_else(|| data.plugin.manifest.plugin.version.to_string()),
                bytes,
            })),
            code => Err(InstanceError::NotSaved(self.why_refused("save", code))),
        }
    }

    /// Gives the plugin what an instance of it saved.
    pub(crate) fn restore(
        &mut self,
        saved: &InstanceState,
        vcpu: VcpuId,
    ) -> Result<(), InstanceError> {
        let restore = self.lifecycle.restore.clone().ok_or(InstanceError::NoRestore)?;
        self.store.data_mut().restoring = Some(saved.clone());
        let code = self.enter(Phase::Restore, vcpu, &restore, ()).map_err(InstanceError::Restore);
        self.store.data_mut().restoring = None;
        match code? {
            0 => Ok(()),
            code => Err(InstanceError::NotRestored(self.why_refused("restore", code))),
        }
    }

    /// What the plugin has to tell after the run; empty for nothing.
    pub(crate) fn report(&mut self, vcpu: VcpuId) -> Result<String, Failure> {
        let Some(report) = self.lifecycle.report.clone() else { return Ok(String::new()) };
        self.enter(Phase::Report, vcpu, &report, ())?;
        self.store.data_mut().say_last_error();
        Ok(std::mem::take(&mut self.store.data_mut().report))
    }

    /// When the plugin wants to be called on the thread of `vcpu`.
    pub(crate) fn timer(&self, vcpu: VcpuId) -> Option<u64> {
        self.store.data().timer.filter(|(thread, _)| *thread == vcpu).map(|(_, at)| at)
    }

    /// When the plugin wants to be called, and on which vCPU's thread.
    pub(crate) fn pending_timer(&self) -> Option<(VcpuId, u64)> {
        self.store.data().timer
    }

    /// Has the plugin's `timer` called on the thread of `vcpu` when the time is `at`, if
    /// it may have timers and has not asked for another time itself.
    pub(crate) fn take_over_timer(&mut self, vcpu: VcpuId, at: u64) {
        let data = self.store.data_mut();
        if data.plugin.held.timer && self.lifecycle.timer.is_some() && data.timer.is_none() {
            data.timer = Some((vcpu, at));
            data.vm.host.wake_at(vcpu, at);
        }
    }

    /// Calls the plugin's `timer`, which it asked for.
    pub(crate) fn fire(&mut self, vcpu: VcpuId) -> Result<(), Failure> {
        self.store.data_mut().timer = None;
        let Some(timer) = self.lifecycle.timer.clone() else { return Ok(()) };
        // It may come as often as an access, so it gets no more than one.
        self.call(Phase::Lifecycle, vcpu, self.fuel, &timer, ())?;
        self.store.data_mut().say_last_error();
        Ok(())
    }

    /// A lifecycle call, while `vcpu` is served.
    fn enter<P, R>(
        &mut self,
        phase: Phase,
        vcpu: VcpuId,
        f: &TypedFunc<P, R>,
        params: P,
    ) -> Result<R, Failure>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        let fuel = self.fuel.saturating_mul(limits::LIFECYCLE_FUEL);
        self.call(phase, vcpu, fuel, f, params)
    }

    /// A call that is not an access.
    fn call<P, R>(
        &mut self,
        phase: Phase,
        vcpu: VcpuId,
        fuel: u64,
        f: &TypedFunc<P, R>,
        params: P,
    ) -> Result<R, Failure>
    where
        P: wasmtime::WasmParams,
        R: wasmtime::WasmResults,
    {
        refuel(&mut self.store, fuel);
        let data = self.store.data_mut();
        data.vcpu = vcpu;
        data.phase = phase;
        data.last_error.clear();
        let called = f.call(&mut self.store, params);
        self.store.data_mut().phase = Phase::Access;
        called.map_err(|error| failure(&error, self.store.data_mut(), fuel))
    }

    /// The plugin's own words, if it logged an error before it refused.
    fn why_refused(&mut self, export: &str, code: i32) -> String {
        let said = std::mem::take(&mut self.store.data_mut().last_error);
        match said.is_empty() {
            true => format!("`{export}` returned {code} and logged no error"),
            false => said,
        }
    }

    /// Puts one access to the plugin. After a [`Failure`] the instance is in
    /// no defined state and must be dropped.
    #[inline]
    pub(crate) fn answer(&mut self, access: MsrAccess, vcpu: VcpuId) -> Result<Answer, Failure> {
        let data = self.store.data_mut();
        data.vcpu = vcpu;
        data.outcome = None;
        if !data.last_error.is_empty() {
            data.last_error.clear();
        }
        refuel(&mut self.store, self.fuel);
        let (index, reason) = (access.index.0, access.reason as u32);
        let called = match (access.op, &self.rdmsr, &self.wrmsr) {
            (MsrOp::Read, Some(rdmsr), _) => {
                rdmsr.call(&mut self.store, (index, vcpu.0, reason)).map(Answer::Value)
            }
            (MsrOp::Write(value), _, Some(wrmsr)) => {
                wrmsr.call(&mut self.store, (index, value, vcpu.0, reason)).map(|()| Answer::Done)
            }
            _ => return Err(Cause::NoExport.into()),
        };
        let data = self.store.data_mut();
        match called {
            Ok(answer) => Ok(data.outcome.unwrap_or(answer)),
            Err(error) => Err(failure(&error, data, self.fuel)),
        }
    }

    /// Fuel that the last call of [`answer`](Self::answer) used.
    pub(crate) fn fuel_used(&self) -> u64 {
        self.fuel.saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    /// Bytes of the plugin's memory.
    pub(crate) fn memory(&self) -> u64 {
        let memory = self.store.data().memory;
        memory.map_or(0, |memory| memory.data_size(&self.store) as u64)
    }
}

fn is_older(version: &str, own: &semver::Version) -> bool {
    semver::Version::parse(version).is_ok_and(|version| version < *own)
}

#[inline]
fn refuel(store: &mut Store<StoreData>, fuel: u64) {
    // Fails only where the engine's settings have fuel off.
    let set = store.set_fuel(fuel);
    debug_assert!(set.is_ok(), "fuel is on in every engine");
}
