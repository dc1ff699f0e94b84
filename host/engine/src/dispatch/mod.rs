//! Answers the MSR accesses of one vCPU: the path that every exit takes.

mod chain;
mod observers;
mod order_lock;
mod report;
mod strays;
mod unhandled_log;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use chain::Chain;
pub(crate) use observers::Observers;
use observers::{Timers, Timing};
pub(crate) use order_lock::OrderLock;
pub use report::{Report, Reports};
pub(crate) use strays::Strays;
pub(crate) use unhandled_log::UnhandledLog;
use wasmsr_interface::{Direction, ExitsRefused, MsrAccess, MsrHandler, MsrIndex, Outcome, VcpuId};

use crate::metrics::Counters;
use crate::msr::{Decision, SlotId};
use crate::plugin::Surroundings;
use crate::record::during;
use crate::slots::{Routes, Slot};

/// Answers the MSR accesses of one vCPU with the instances that belong to it.
pub struct VcpuDispatch {
    pub(crate) chain: Chain,
    pub(crate) counters: Arc<Counters>,
    pub(crate) vm: Surroundings,
    pub(crate) reports: Reports,
}

impl MsrHandler for VcpuDispatch {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        match self.chain.observers {
            None => self.decide(access).outcome,
            Some(_) => self.answer_observed(access),
        }
    }

    fn wake(&mut self) {
        match self.chain.observers {
            None => {
                self.serve_timers();
            }
            Some(_) => self.wake_observed(),
        }
    }

    fn end(&mut self) {
        let served = self.chain.vcpu;
        let first = served == VcpuId(0);
        for (id, slot) in (0..).map(SlotId).zip(&mut self.chain.slots) {
            let (plugin, vcpu, text) = slot.with(|instance| {
                let vcpu = instance.scope();
                // The VM's own instances report with vCPU 0.
                let due = vcpu.is_some() || first;
                let text = if due { instance.report(served) } else { Some(String::new()) };
                if due {
                    instance.settle_log();
                }
                (instance.name().clone(), vcpu, text)
            });
            match text {
                None => {
                    self.counters.failed_at_no_access(id);
                    if let Some(observers) = &self.chain.observers {
                        observers.failed(&plugin);
                    }
                }
                Some(text) if text.is_empty() => {}
                Some(text) => self.reports.add(Report { plugin, vcpu, text }),
            }
        }
        if let Some(observers) = &mut self.chain.observers {
            observers.ended(first);
        }
    }
}

impl VcpuDispatch {
    /// Decides an access, and counts it.
    #[inline]
    pub(crate) fn decide(&mut self, access: MsrAccess) -> Decision {
        self.chain.decide(access, &self.counters)
    }

    /// The path of an access that is recorded, or has shadows.
    #[cold]
    fn answer_observed(&mut self, access: MsrAccess) -> Outcome {
        let observers = self.chain.observers.as_ref();
        let lock = observers.and_then(|o| o.order_lock.for_access(&self.chain.routes, access));
        let order = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let (decision, log) = during(|| self.decide(access));
        let timing = Timing { began, took: began.elapsed() };
        match &mut self.chain.observers {
            Some(observers) => {
                observers.answered(access, decision, timing, log, self.chain.vcpu, order)
            }
            None => decision.outcome,
        }
    }

    /// Serves timers whose host calls are recorded, or that have shadows.
    fn wake_observed(&mut self) {
        let lock =
            self.chain.observers.as_ref().and_then(|observers| observers.order_lock.for_timers());
        let order = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let (timers, log) = during(|| self.serve_timers());
        if let Some(observers) = &mut self.chain.observers {
            observers.woken(began, timers, log, self.chain.vcpu, order);
        }
    }

    /// Calls the timers that are due.
    pub(crate) fn serve_timers(&mut self) -> Timers {
        let now = self.vm.host.monotonic_ns();
        let vcpu = self.chain.vcpu;
        let mut next: Option<u64> = None;
        let mut failed = Vec::new();
        for (id, slot) in (0..).map(SlotId).zip(&mut self.chain.slots) {
            let woken = slot.wake(now, vcpu);
            if woken.failed {
                self.counters.failed_at_no_access(id);
                failed.extend(self.chain.routes.names.get(usize::from(id.0)).cloned());
            }
            next = [next, woken.next].into_iter().flatten().min();
        }
        if let Some(at) = next {
            self.vm.host.wake_at(vcpu, at);
        }
        Timers { now, failed }
    }
}

/// A live instance that answers a vCPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// The plugin.
    pub plugin: Arc<str>,
    /// The vCPU whose instance it is; `None` for the VM's.
    pub vcpu: Option<VcpuId>,
    /// Bytes of its memory now.
    pub memory: u64,
}

impl VcpuDispatch {
    /// Brings every plugin to its state after a reset of the guest. To be called for
    /// vCPU 0 first: this makes what exits again what the manifests say, and resets the
    /// VM's own instances. A recording has no line for a reset: a replay goes on with
    /// the state from before it.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not take the exits of the manifests. The exits
    /// then stay as they were; the plugins are reset all the same.
    pub fn reset(&mut self) -> Result<(), ExitsRefused> {
        if self.chain.observers.is_none() {
            return self.reset_plugins();
        }
        let (set_back, log) = during(|| self.reset_plugins());
        if let Some(observers) = &mut self.chain.observers {
            observers.reset(&log, self.chain.vcpu);
        }
        set_back
    }

    fn reset_plugins(&mut self) -> Result<(), ExitsRefused> {
        let set_back = match &self.chain.switches {
            Some(switches) if self.chain.vcpu == VcpuId(0) => switches.set_back(&*self.vm.host),
            _ => Ok(()),
        };
        for (id, slot) in (0..).map(SlotId).zip(&mut self.chain.slots) {
            if slot.reset(self.chain.vcpu) {
                self.counters.failed_at_no_access(id);
                let name = self.chain.routes.names.get(usize::from(id.0));
                if let (Some(observers), Some(name)) = (&self.chain.observers, name) {
                    observers.failed(name);
                }
            }
        }
        set_back
    }

    /// Whether the filter lets an access pass because each plugin that claims it has it
    /// turned off.
    pub(crate) fn is_turned_off(&self, index: MsrIndex, direction: Direction) -> bool {
        let routes = &self.chain.routes;
        let name = |id: &SlotId| routes.names.get(usize::from(id.0));
        let claimed = routes.map.lookup(index, direction);
        let is_on = |name| self.vm.intercepts.is_on(name, index, direction);
        !claimed.is_empty() && !claimed.iter().filter_map(name).any(is_on)
    }

    /// Fuel that the last access used in the first plugin that claims the MSR in this
    /// direction, or else wants what is unhandled; `None` if there is no such plugin,
    /// or it failed.
    pub fn fuel_used(&mut self, index: MsrIndex, direction: Direction) -> Option<u64> {
        let Routes { map, unknown, invalid, .. } = &*self.chain.routes;
        let first = map.lookup(index, direction).iter().chain(unknown).chain(invalid).next()?;
        self.chain.slots.get_mut(usize::from(first.0))?.with(|instance| instance.fuel_used())
    }

    /// The instances that answer this vCPU now. One that has just failed is not among
    /// them.
    pub fn instances(&mut self) -> Vec<InstanceInfo> {
        let info = |slot: &mut Slot| {
            slot.with(|instance| {
                let plugin = instance.name().clone();
                Some(InstanceInfo { plugin, vcpu: instance.scope(), memory: instance.memory()? })
            })
        };
        self.chain.slots.iter_mut().filter_map(info).collect()
    }
}
