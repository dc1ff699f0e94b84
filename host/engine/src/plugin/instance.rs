//! One live plugin: an instance in a store of its own, and the limits around
//! every call into it.

use std::fmt;
use std::sync::Arc;

use bytesize::ByteSize;
use wasmsr_interface::{Host, MsrAccess, MsrOp, VcpuId};
use wasmtime::{Memory, ResourceLimiter, Store, Trap, TypedFunc};

use super::abi::{self, NO_VCPU};
use super::limits;
use super::log::Log;
use super::module::Plugin;
use crate::intercepts::Intercepts;
use crate::state::InstanceState;

/// A plugin's answer to an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A read's value.
    Value(u64),
    /// The write was taken.
    Done,
    /// #GP in the guest.
    Fault,
    /// Not this plugin's: whoever comes next decides.
    Pass,
    /// KVM's own answer.
    Kernel,
}

/// Why a call did not come back with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    OutOfFuel {
        fuel: u64,
    },
    Stack,
    /// Any other trap, with the ceiling if an allocation hit it before.
    Trap {
        what: String,
        ceiling: Option<u64>,
    },
    /// The export is not there, though its manifest promised it.
    NoExport,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::OutOfFuel { fuel } => write!(
                f,
                "it used up its fuel of {fuel} instructions (raise `fuel` if the work is honest)"
            ),
            Failure::Stack => write!(f, "its stack overflowed (does it recurse without end?)"),
            Failure::Trap { what, ceiling: None } => write!(f, "it trapped: {what}"),
            Failure::Trap { what, ceiling: Some(bytes) } => write!(
                f,
                "it hit its memory ceiling of {} (raise `memory` if the need is honest) and trapped: {what}",
                ByteSize(*bytes).display().iec()
            ),
            Failure::NoExport => write!(f, "it has no export for this direction"),
        }
    }
}

/// Why a plugin does not come to life.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("it cannot be instantiated: {0}")]
    Instantiate(Failure),
    #[error("its `init` failed: {0}")]
    Init(Failure),
    #[error("it refuses its configuration: {0}")]
    Refused(String),
    #[error("its `save` failed: {0}")]
    Save(Failure),
    #[error("it does not save its state: {0}")]
    NotSaved(String),
    #[error("it has no export `restore`, but there is saved state for it")]
    NoRestore,
    #[error("its `restore` failed: {0}")]
    Restore(Failure),
    #[error("it refuses the saved state: {0}")]
    NotRestored(String),
}

/// The VM around an instance.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) intercepts: Intercepts,
    /// How many vCPUs the VM has.
    pub(crate) vcpus: u32,
}

/// What a store carries beside the plugin's own memory.
pub(super) struct State {
    pub(super) plugin: Arc<Plugin>,
    pub(super) vm: Surroundings,
    pub(super) memory: Option<Memory>,
    /// The vCPU that is served, on whose thread this is as long as it runs.
    pub(super) vcpu: VcpuId,
    pub(super) phase: Phase,
    /// What the plugin said through `outcome`.
    pub(super) outcome: Option<Answer>,
    pub(super) log: Log,
    /// The last error-level line of a lifecycle call, which explains why it
    /// refuses.
    pub(super) last_error: String,
    /// When, by the host's monotonic clock, the plugin wants to be called, and
    /// on which vCPU's thread.
    pub(super) timer: Option<(VcpuId, u64)>,
    /// What `save` hands out.
    pub(super) saved: Vec<u8>,
    /// What `restore` takes in.
    pub(super) restoring: Option<InstanceState>,
    /// What `report` hands out.
    pub(super) report: String,
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

impl State {
    /// Writes a line of the plugin's to the log, as far as its limit allows.
    pub(super) fn say(&self, level: u32, line: impl FnOnce() -> String) {
        self.log.say(&self.plugin.name, level, line);
    }
}

impl ResourceLimiter for State {
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

/// A live plugin. Not shared: whoever holds it runs it.
pub(crate) struct Instance {
    store: Store<State>,
    fuel: u64,
    rdmsr: Option<TypedFunc<(u32, u32, u32), u64>>,
    wrmsr: Option<TypedFunc<(u32, u64, u32, u32), ()>>,
    lifecycle: Lifecycle,
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
        plugin: &Arc<Plugin>,
        vm: &Surroundings,
        log: &Log,
        scope: Option<VcpuId>,
        vcpu: VcpuId,
    ) -> Result<Self, InstanceError> {
        let state = State {
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
            restoring: None,
            report: String::new(),
            ceiling_hit: false,
        };
        let mut store = Store::new(plugin.linked.module().engine(), state);
        store.limiter(|state| state);
        let fuel = plugin.config.fuel;
        let lifecycle = fuel.saturating_mul(limits::LIFECYCLE_FUEL);
        refuel(&mut store, lifecycle);
        let instance = match plugin.linked.instantiate(&mut store) {
            Ok(instance) => instance,
            Err(error) => {
                return Err(InstanceError::Instantiate(failure(&error, store.data(), lifecycle)));
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
        instance.say_last_error();
        Ok(instance)
    }

    /// Brings the plugin to its state after a reset of the guest; `false` if
    /// it has no `reset` of its own.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) -> Result<bool, Failure> {
        let Some(reset) = self.lifecycle.reset.clone() else { return Ok(false) };
        self.enter(Phase::Lifecycle, vcpu, &reset, ())?;
        self.say_last_error();
        Ok(true)
    }

    /// What the plugin wants to keep; `None` if it keeps nothing.
    pub(crate) fn save(&mut self, vcpu: VcpuId) -> Result<Option<Vec<u8>>, InstanceError> {
        let Some(save) = self.lifecycle.save.clone() else { return Ok(None) };
        self.store.data_mut().saved.clear();
        match self.enter(Phase::Save, vcpu, &save, ()).map_err(InstanceError::Save)? {
            0 => Ok(Some(std::mem::take(&mut self.store.data_mut().saved))),
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
        self.say_last_error();
        Ok(std::mem::take(&mut self.store.data_mut().report))
    }

    /// When the plugin wants to be called on the thread of `vcpu`.
    pub(crate) fn timer(&self, vcpu: VcpuId) -> Option<u64> {
        self.store.data().timer.filter(|(thread, _)| *thread == vcpu).map(|(_, at)| at)
    }

    /// Calls the plugin's `timer`, which it asked for.
    pub(crate) fn fire(&mut self, vcpu: VcpuId) -> Result<(), Failure> {
        let state = self.store.data_mut();
        state.timer = None;
        state.vcpu = vcpu;
        state.phase = Phase::Lifecycle;
        let Some(timer) = self.lifecycle.timer.clone() else { return Ok(()) };
        // It may come as often as an access, so it gets no more than one.
        refuel(&mut self.store, self.fuel);
        let called = timer.call(&mut self.store, ());
        self.store.data_mut().phase = Phase::Access;
        self.say_last_error();
        called.map_err(|error| failure(&error, self.store.data(), self.fuel))
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
        refuel(&mut self.store, fuel);
        let state = self.store.data_mut();
        state.vcpu = vcpu;
        state.phase = phase;
        let called = f.call(&mut self.store, params);
        self.store.data_mut().phase = Phase::Access;
        called.map_err(|error| failure(&error, self.store.data(), fuel))
    }

    /// An error that the plugin logged, and then did not refuse.
    fn say_last_error(&mut self) {
        let state = self.store.data_mut();
        let said = std::mem::take(&mut state.last_error);
        if !said.is_empty() {
            state.say(abi::ERROR, || said);
        }
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
        let state = self.store.data_mut();
        state.vcpu = vcpu;
        state.outcome = None;
        refuel(&mut self.store, self.fuel);
        let (index, reason) = (access.index.0, access.reason as u32);
        let called = match (access.op, &self.rdmsr, &self.wrmsr) {
            (MsrOp::Read, Some(rdmsr), _) => {
                rdmsr.call(&mut self.store, (index, vcpu.0, reason)).map(Answer::Value)
            }
            (MsrOp::Write(value), _, Some(wrmsr)) => {
                wrmsr.call(&mut self.store, (index, value, vcpu.0, reason)).map(|()| Answer::Done)
            }
            _ => return Err(Failure::NoExport),
        };
        let state = self.store.data();
        match called {
            Ok(answer) => Ok(state.outcome.unwrap_or(answer)),
            Err(error) => Err(failure(&error, state, self.fuel)),
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

#[inline]
fn refuel(store: &mut Store<State>, fuel: u64) {
    // Fails only where the engine's settings have fuel off.
    let set = store.set_fuel(fuel);
    debug_assert!(set.is_ok(), "fuel is on in every engine");
}

fn failure(error: &wasmtime::Error, state: &State, fuel: u64) -> Failure {
    let ceiling = state.ceiling_hit.then_some(state.plugin.config.memory);
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Failure::OutOfFuel { fuel },
        Some(Trap::StackOverflow) => Failure::Stack,
        Some(trap) => {
            let text = trap.to_string();
            let what = text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned();
            Failure::Trap { what, ceiling }
        }
        None => Failure::Trap { what: format!("{error:#}"), ceiling },
    }
}
