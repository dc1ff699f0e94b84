//! What a plugin's store carries, and the limits of its memory.

use std::sync::Arc;

use wasmsr_interface::{Host, VcpuId};
use wasmtime::{Memory, ResourceLimiter, Trap};

use super::abi;
use super::answer::{Answer, Cause, Failure};
use super::description::Description;
use super::log::Log;
use crate::intercepts::Intercepts;
use crate::limits;
use crate::state::InstanceState;

/// The VM around an instance.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) intercepts: Intercepts,
    /// How many vCPUs the VM has.
    pub(crate) vcpus: u32,
}

/// What a store carries beside the plugin's own memory.
pub(super) struct StoreData {
    pub(super) plugin: Arc<Description>,
    pub(super) vm: Surroundings,
    pub(super) memory: Option<Memory>,
    /// The vCPU that is served. While it runs, this is its thread.
    pub(super) vcpu: VcpuId,
    pub(super) phase: Phase,
    /// What the plugin said through `outcome`.
    pub(super) outcome: Option<Answer>,
    pub(super) log: Log,
    /// The last error-level line of the present call that is in no log: of a lifecycle
    /// call, because it explains why the call refuses or fails; of an access, because
    /// the log has no room for it.
    pub(super) last_error: String,
    /// When, by the host's monotonic clock, the plugin wants to be called, and
    /// on which vCPU's thread.
    pub(super) timer: Option<(VcpuId, u64)>,
    /// What `save` hands out.
    pub(super) saved: Vec<u8>,
    /// The older version for which `save` is to write.
    pub(super) saving_for: Option<String>,
    /// Whether `save` has asked for that version.
    pub(super) asked_for_version: bool,
    /// What `restore` takes in.
    pub(super) restoring: Option<InstanceState>,
    /// What `report` hands out.
    pub(super) report: String,
    /// Whether the plugin asked for more memory than its ceiling.
    ceiling_hit: bool,
}

/// What the plugin is called for, which decides what it may call back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// `init`, `reset`, `timer`
    Lifecycle,
    /// `rdmsr`, `wrmsr`
    Access,
    Save,
    Restore,
    Report,
}

impl StoreData {
    /// The data of a new instance, which is initialised while `vcpu` is served.
    pub(super) fn new(
        plugin: &Arc<Description>,
        vm: &Surroundings,
        log: &Log,
        vcpu: VcpuId,
    ) -> Self {
        StoreData {
            plugin: plugin.clone(),
            vm: vm.clone(),
            memory: None,
            vcpu,
            phase: Phase::Lifecycle,
            outcome: None,
            log: log.clone(),
            last_error: String::new(),
            timer: None,
            saved: Vec::new(),
            saving_for: None,
            asked_for_version: false,
            restoring: None,
            report: String::new(),
            ceiling_hit: false,
        }
    }

    /// Writes a line of the plugin's to the log, as far as its limit allows. An error
    /// for which there is no room is kept, since it may be the plugin's last words.
    pub(super) fn say(&mut self, level: u32, line: impl FnOnce() -> String) {
        match self.log.has_room() {
            true => self.log.write(level, &line()),
            false if level == abi::ERROR => self.last_error = line(),
            false => {}
        }
    }

    /// Keeps an error of a call that may refuse or fail because of it. An earlier one
    /// goes to the log.
    pub(super) fn keep_error(&mut self, line: String) {
        self.say_last_error();
        self.last_error = line;
    }

    /// Writes an error that was kept to the log.
    pub(super) fn say_last_error(&mut self) {
        let said = std::mem::take(&mut self.last_error);
        if !said.is_empty() {
            self.say(abi::ERROR, || said);
        }
    }
}

impl ResourceLimiter for StoreData {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired as u64 <= self.plugin.config.memory;
        self.ceiling_hit |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= limits::TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }
}

/// Why a call that had so much fuel ended with `error`.
#[cold]
pub(super) fn failure(error: &wasmtime::Error, data: &mut StoreData, fuel: u64) -> Failure {
    let said = std::mem::take(&mut data.last_error);
    let ceiling = data.ceiling_hit.then_some(data.plugin.config.memory);
    let cause = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Cause::OutOfFuel { fuel },
        Some(Trap::StackOverflow) => Cause::Stack,
        Some(trap) => {
            let text = trap.to_string();
            let what = text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned();
            Cause::Trap { what, ceiling }
        }
        None => Cause::Trap { what: format!("{error:#}"), ceiling },
    };
    Failure { cause, said }
}
