//! A host for unit tests, on every target but Wasm. Each thread has its own.
//!
//! ```
//! use wasmsr_sdk::native::{Host, access};
//! use wasmsr_sdk::{Access, Error, Otherwise, Plugin, Setup, time};
//!
//! struct Clock;
//!
//! impl Plugin for Clock {
//!     fn new(_: &Setup) -> Result<Self, Error> {
//!         Ok(Clock)
//!     }
//!
//!     fn rdmsr(&mut self, _: Access) -> Result<u64, Otherwise> {
//!         Ok(time::tsc())
//!     }
//! }
//!
//! let host = Host::fresh();
//! host.set_tsc(7);
//! let mut clock: Clock = host.load("{}").unwrap();
//! assert_eq!(clock.rdmsr(access(0x10)), Ok(7));
//! ```

pub(crate) mod imports;
mod script;

use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;

use serde::Serialize;

use crate::intercept::Directions;
use crate::log::Level;
use crate::memory::GuestAddress;
use crate::saved::to_json;
use crate::vcpus::Times;
use crate::{Access, Error, Exported, MsrIndex, Persist, Plugin, Reason, Saved, VcpuId, export};

use script::{Script, with};

/// An access by vCPU 0 to an MSR that the manifest names.
pub const fn access(index: u32) -> Access {
    Access::new(MsrIndex(index), VcpuId(0), Reason::Filter)
}

/// This thread's host: what it answers to a plugin, and what the plugin did to
/// it.
#[derive(Debug)]
pub struct Host {
    _of_this_thread: PhantomData<*const ()>,
}

impl Host {
    /// A host without anything that an earlier test set: no memory, no MSR,
    /// every clock at 0.
    pub fn fresh() -> Self {
        with(|script| *script = Script::default());
        Host { _of_this_thread: PhantomData }
    }

    /// Makes a plugin for vCPU 0, with a configuration as JSON, `{}` for none.
    ///
    /// # Errors
    /// The error of the plugin.
    pub fn load<P: Plugin>(&self, config: &str) -> Result<P, Error> {
        self.load_for(Some(VcpuId(0)), config)
    }

    /// Makes a plugin for this vCPU, or for the whole VM.
    ///
    /// # Errors
    /// The error of the plugin.
    pub fn load_for<P: Plugin>(&self, vcpu: Option<VcpuId>, config: &str) -> Result<P, Error> {
        with(|script| script.config = config.into());
        export::make(vcpu)
    }

    /// The state that a plugin of this version saves for the next.
    ///
    /// # Errors
    /// A state that JSON cannot hold.
    pub fn save(&self, plugin: &impl Persist, version: &str) -> Result<Saved, Error> {
        Ok(Saved::new(export::save(plugin)?, version.into()))
    }

    /// The state that a plugin saves for this older version of it, which comes back.
    ///
    /// # Errors
    /// The plugin's refusal, or a state that JSON cannot hold.
    pub fn save_for<P: Persist + Exported>(&self, plugin: &P, older: &str) -> Result<Saved, Error> {
        Ok(Saved::new(export::save_for(plugin, older.into())?, older.into()))
    }

    /// A state as if a plugin of this version had saved it, for tests of what
    /// `restore` refuses.
    ///
    /// # Errors
    /// A state that JSON cannot hold.
    pub fn forge(&self, state: &impl Serialize, version: &str) -> Result<Saved, Error> {
        Ok(Saved::new(to_json(state)?, version.into()))
    }

    /// Sets the guest's time-stamp counter.
    pub fn set_tsc(&self, tsc: u64) {
        with(|script| script.tsc = tsc);
    }

    /// Sets the frequency of the guest's time-stamp counter.
    pub fn set_tsc_khz(&self, khz: u32) {
        with(|script| script.tsc_khz = khz);
    }

    /// Sets the host's monotonic clock.
    pub fn set_monotonic_ns(&self, ns: u64) {
        with(|script| script.monotonic_ns = ns);
    }

    /// Puts guest RAM with these contents at an address.
    pub fn set_memory(&self, at: GuestAddress, contents: &[u8]) {
        with(|script| script.memory.insert(at.0, contents.into()));
    }

    /// The bytes in the guest's memory; `None` outside it.
    pub fn memory(&self, at: GuestAddress, len: usize) -> Option<Vec<u8>> {
        with(|script| script.memory_mut(at.0, len).map(|bytes| bytes.to_vec()))
    }

    /// Gives KVM an MSR. KVM refuses all MSRs that it was not given.
    pub fn set_kvm_msr(&self, index: MsrIndex, value: u64) {
        with(|script| script.kvm_msrs.insert(index.0, value));
    }

    /// Says what KVM lets the guest do with an MSR: whether it may read it, and which bits
    /// it may change; a write that changes others is refused. Without it, the guest may
    /// do what the VMM may.
    pub fn set_guest_rule(&self, index: MsrIndex, readable: bool, writable: u64) {
        with(|script| script.guest_rules.insert(index.0, (readable, writable)));
    }

    /// KVM's value of an MSR.
    pub fn kvm_msr(&self, index: MsrIndex) -> Option<u64> {
        with(|script| script.kvm_msrs.get(&index.0).copied())
    }

    /// Sets the host's time of day.
    pub fn set_realtime_ns(&self, ns: u64) {
        with(|script| script.realtime_ns = ns);
    }

    /// Says whether the time-stamp counters of all vCPUs agree.
    pub fn set_tsc_is_stable(&self, stable: bool) {
        with(|script| script.tsc_is_stable = stable);
    }

    /// Sets how many vCPUs the VM has; the default is one.
    pub fn set_vcpus(&self, count: u32) {
        with(|script| script.vcpus = count);
    }

    /// Sets how long a vCPU has run and waited. The host refuses to answer for
    /// other vCPUs.
    pub fn set_vcpu_times(&self, vcpu: VcpuId, times: Times) {
        with(|script| script.vcpu_times.insert(vcpu.0, [times.ran_ns, times.waited_ns]));
    }

    /// Sets how many CPUs the host has; the default is one.
    pub fn set_host_cpus(&self, count: u32) {
        with(|script| script.host_cpus = count);
    }

    /// Gives one CPU of the host a value of its own.
    pub fn set_host_msr_on(&self, cpu: u32, index: MsrIndex, value: u64) {
        with(|script| script.host_msrs_on.insert((cpu, index.0), value));
    }

    /// Puts a file under a name that the profile grants.
    pub fn set_host_file(&self, name: &str, contents: &[u8]) {
        with(|script| script.host_files.insert(name.into(), contents.into()));
    }

    /// Gives the physical CPU an MSR, within the granted ranges.
    pub fn set_host_msr(&self, index: MsrIndex, value: u64) {
        with(|script| script.host_msrs.insert(index.0, value));
    }

    /// The time at which the plugin asked to be called.
    pub fn timer(&self) -> Option<u64> {
        with(|script| script.timer)
    }

    /// How the plugin changed its intercepts, oldest first.
    pub fn intercepts(&self) -> Vec<Intercept> {
        with(|script| script.intercepts.clone())
    }

    /// The lines that the plugin logged, oldest first.
    pub fn logged(&self) -> Vec<(Level, String)> {
        with(|script| script.logged.clone())
    }

    #[cfg(test)]
    pub(crate) fn set_config(&self, config: &str) {
        with(|script| script.config = config.into());
    }

    #[cfg(test)]
    pub(crate) fn set_save_version(&self, version: &str) {
        with(|script| script.save_version = version.into());
    }

    #[cfg(test)]
    pub(crate) fn set_saved_version(&self, version: &str) {
        with(|script| script.saved_version = version.into());
    }

    #[cfg(test)]
    pub(crate) fn take_outcome(&self) -> Option<u32> {
        with(|script| script.outcome.take())
    }
}

/// One change of a plugin's intercepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intercept {
    /// Lowest MSR.
    pub first: MsrIndex,
    /// Highest MSR.
    pub last: MsrIndex,
    /// Which accesses.
    pub directions: Directions,
    /// What answers from now on.
    pub answered_by: AnsweredBy,
}

/// What answers an MSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The plugin: the intercepts were widened.
    Plugin,
    /// KVM: they were narrowed.
    Kvm,
}
