//! Answers the MSR accesses of one vCPU: the path that every exit takes.

mod observers;
mod order_lock;
mod report;
mod unhandled_log;

use std::sync::Arc;
use std::time::Instant;

pub(crate) use observers::Observers;
use observers::Timing;
pub(crate) use order_lock::OrderLock;
pub use report::{Report, Reports};
pub(crate) use unhandled_log::UnhandledLog;
use wasmsr_interface::{
    Direction, ExitsRefused, MsrAccess, MsrHandler, MsrIndex, Outcome, Reason, VcpuId,
};

use crate::intercepts::Intercepts;
use crate::metrics::Counters;
use crate::msr::{Decision, Policy, SlotId};
use crate::plugin::Surroundings;
use crate::record::during;
use crate::slots::{Routes, Slot};

/// Answers the MSR accesses of one vCPU with the instances that belong to it.
pub struct VcpuDispatch {
    pub(crate) vcpu: VcpuId,
    pub(crate) routes: Arc<Routes>,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) unhandled_log: UnhandledLog,
    pub(crate) vm: Surroundings,
    /// Set if a plugin may change its intercepts.
    pub(crate) switches: Option<Intercepts>,
    pub(crate) reports: Reports,
    /// Set if accesses are recorded, or shadows follow them.
    pub(crate) observers: Option<Box<Observers>>,
}

impl MsrHandler for VcpuDispatch {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        match self.observers {
            None => self.decide(access).outcome,
            Some(_) => self.answer_observed(access),
        }
    }

    fn wake(&mut self) {
        match self.observers {
            None => {
                self.serve_timers();
            }
            Some(_) => self.wake_observed(),
        }
    }

    fn end(&mut self) {
        let served = self.vcpu;
        let first = served == VcpuId(0);
        for (id, slot) in (0..).map(SlotId).zip(&mut self.slots) {
            let (plugin, vcpu, text) = slot.with(|instance| {
                let vcpu = instance.scope();
                // The VM's own instances report with vCPU 0.
                let due = vcpu.is_some() || first;
                let text = if due { instance.report(served) } else { Some(String::new()) };
                (instance.name().clone(), vcpu, text)
            });
            match text {
                None => self.counters.failed_at_no_access(id),
                Some(text) if text.is_empty() => {}
                Some(text) => self.reports.add(Report { plugin, vcpu, text }),
            }
        }
        if let Some(observers) = self.observers.as_ref().filter(|_| first) {
            observers.ended();
        }
    }
}

impl VcpuDispatch {
    /// Asks the plugins that claim the access, then those that want what is unhandled
    /// for its reason, each until one does not pass it on; then the policy.
    #[inline]
    pub(crate) fn decide(&mut self, access: MsrAccess) -> Decision {
        let vcpu = self.vcpu;
        let claimed = self.routes.map.lookup(access.index, access.op.direction());
        let mut meter = self.counters.begin(access.index, claimed.first().copied());
        let eligible = self.eligible(claimed, access);
        let claimed = claimed.iter().filter(|&&id| eligible.has(id));
        for &id in claimed.chain(self.routes.unhandled(access.reason)) {
            let Some(slot) = self.slots.get_mut(usize::from(id.0)) else { continue };
            let observers = &mut self.observers;
            let answer = slot.with(|instance| {
                let answer = instance.answer(access, vcpu);
                meter.answered(|| instance.fuel_used());
                if let Some(observers) = observers {
                    observers.asked(id, &answer, instance.fuel_used());
                }
                answer
            });
            let (outcome, failed) = match answer {
                Ok(answer) => match answer.outcome() {
                    Some(outcome) => (outcome, false),
                    None => continue,
                },
                Err(outcome) => (outcome, true),
            };
            let decision = Decision { outcome, by: Some(id), failed };
            meter.end(access.op, &decision);
            return decision;
        }
        self.unhandled_log.note(access, vcpu, &self.policy);
        let decision = Decision { outcome: self.policy.decide(access), by: None, failed: false };
        meter.end(access.op, &decision);
        decision
    }

    /// The path of an access that is recorded, or has shadows.
    #[cold]
    fn answer_observed(&mut self, access: MsrAccess) -> Outcome {
        let observers = self.observers.as_ref();
        let lock = observers.and_then(|o| o.order_lock.for_access(&self.routes, access));
        let order = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let (decision, log) = during(|| self.decide(access));
        let timing = Timing { began, took: began.elapsed() };
        match &mut self.observers {
            Some(observers) => observers.answered(access, decision, timing, log, self.vcpu, order),
            None => decision.outcome,
        }
    }

    /// Serves timers whose host calls are recorded, or that have shadows.
    fn wake_observed(&mut self) {
        let lock = self.observers.as_ref().and_then(|observers| observers.order_lock.for_timers());
        let order = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let (now, log) = during(|| self.serve_timers());
        if let Some(observers) = &mut self.observers {
            observers.woken(began, now, log, self.vcpu, order);
        }
    }

    /// Calls the timers that are due, by the clock that it returns.
    fn serve_timers(&mut self) -> u64 {
        let now = self.vm.host.monotonic_ns();
        let vcpu = self.vcpu;
        let mut next: Option<u64> = None;
        for (id, slot) in (0..).map(SlotId).zip(&mut self.slots) {
            let woken = slot.wake(now, vcpu);
            if woken.failed {
                self.counters.failed_at_no_access(id);
            }
            next = [next, woken.next].into_iter().flatten().min();
        }
        if let Some(at) = next {
            self.vm.host.wake_at(vcpu, at);
        }
        now
    }

    /// The claimants that may be asked. Intercepts are looked at only if plugins may
    /// change them, and not for the only claimant of an access that the filter sent:
    /// either it has the access on, or the access was pending when it turned it off.
    #[inline]
    fn eligible(&self, claimed: &[SlotId], access: MsrAccess) -> Eligible {
        match &self.switches {
            Some(switches) if claimed.len() != 1 || access.reason != Reason::Filter => {
                self.turned_on(switches, claimed, access)
            }
            _ => Eligible::All,
        }
    }

    /// The claimants that have the access turned on.
    ///
    /// If the filter sent the access and no claimant has it on, the access was pending
    /// when a plugin turned it off: all claimants may be asked.
    #[cold]
    fn turned_on(&self, switches: &Intercepts, claimed: &[SlotId], access: MsrAccess) -> Eligible {
        let on = |id: &&SlotId| {
            let name = self.routes.names.get(usize::from(id.0));
            name.is_some_and(|name| switches.is_on(name, access.index, access.op.direction()))
        };
        let on: Vec<SlotId> = claimed.iter().filter(on).copied().collect();
        match access.reason == Reason::Filter && on.is_empty() {
            true => Eligible::All,
            false => Eligible::Only(on),
        }
    }
}

/// The claimants of an access that may be asked.
enum Eligible {
    All,
    Only(Vec<SlotId>),
}

impl Eligible {
    #[inline]
    fn has(&self, slot: SlotId) -> bool {
        match self {
            Eligible::All => true,
            Eligible::Only(slots) => slots.contains(&slot),
        }
    }
}

/// A live instance that answers a vCPU, for people.
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
        if self.observers.is_none() {
            return self.reset_plugins();
        }
        let (set_back, log) = during(|| self.reset_plugins());
        if let Some(observers) = &mut self.observers {
            observers.reset(&log, self.vcpu);
        }
        set_back
    }

    fn reset_plugins(&mut self) -> Result<(), ExitsRefused> {
        let set_back = match &self.switches {
            Some(switches) if self.vcpu == VcpuId(0) => switches.set_back(&*self.vm.host),
            _ => Ok(()),
        };
        for (id, slot) in (0..).map(SlotId).zip(&mut self.slots) {
            if slot.reset(self.vcpu) {
                self.counters.failed_at_no_access(id);
            }
        }
        set_back
    }

    /// Fuel that the last access used in the first plugin that claims the MSR in this
    /// direction, or else wants what is unhandled; `None` if there is no such plugin,
    /// or it failed.
    pub fn fuel_used(&mut self, index: MsrIndex, direction: Direction) -> Option<u64> {
        let Routes { map, unknown, invalid, .. } = &*self.routes;
        let first = map.lookup(index, direction).iter().chain(unknown).chain(invalid).next()?;
        self.slots.get_mut(usize::from(first.0))?.with(|instance| instance.fuel_used())
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
        self.slots.iter_mut().filter_map(info).collect()
    }
}
