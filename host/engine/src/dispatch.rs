//! Answers the MSR accesses of one vCPU: the path that every exit takes.

use std::sync::Arc;
use std::time::Instant;

use wasmsr_interface::{
    Direction, ExitsRefused, MsrAccess, MsrHandler, MsrIndex, Outcome, Reason, VcpuId,
};

use crate::claims::Answers;
use crate::intercepts::Intercepts;
use crate::metrics::{Counters, Sample};
use crate::msr::{Policy, SlotId};
use crate::observers::{Observers, Timing};
use crate::order_lock;
use crate::plugin::Surroundings;
use crate::report::{Report, Reports};
use crate::slot::{Slot, Verdict};
use crate::unhandled_log::UnhandledLog;

/// Answers the MSR accesses of one vCPU with the instances that belong to it.
pub struct VcpuDispatch {
    pub(crate) vcpu: VcpuId,
    pub(crate) answers: Arc<Answers>,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) unhandled_log: UnhandledLog,
    pub(crate) vm: Surroundings,
    /// Set where a plugin may change its intercepts.
    pub(crate) switches: Option<Intercepts>,
    pub(crate) reports: Reports,
    /// Who looks on; nobody, as a rule.
    pub(crate) observers: Option<Box<Observers>>,
}

/// How an access ended.
pub(crate) struct Decision {
    pub(crate) outcome: Outcome,
    /// Who decided; `None` for the policy.
    pub(crate) by: Option<SlotId>,
    /// Whether that plugin failed.
    pub(crate) failed: bool,
}

impl MsrHandler for VcpuDispatch {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        match self.observers {
            None => self.decide(access).outcome,
            Some(_) => self.answer_observed(access),
        }
    }

    fn wake(&mut self) {
        let lock = self.observers.as_ref().and_then(|observers| observers.order_lock.for_timers());
        let turn = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let now = self.serve_timers();
        if let Some(observers) = &mut self.observers {
            observers.woken(began, now, self.vcpu, turn);
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
                None => self.counters.without_msr(Some(id)).count_failure(),
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
    #[inline]
    pub(crate) fn decide(&mut self, access: MsrAccess) -> Decision {
        let claimed = self.answers.map.lookup(access.index, access.op.direction());
        let first = claimed.first().copied();
        let mut row = self.counters.row(access.index, first);
        let mut sample = row.sample();
        // Nearly every access ends with the first claimant's answer; this path
        // asks nobody else, and finds its row once. Where intercepts change, it
        // is for the only claimant of an access that the filter sent: either it
        // has the access on, or it was pending.
        let straight =
            self.switches.is_none() || (claimed.len() == 1 && access.reason == Reason::Filter);
        let first_slot = first.filter(|_| straight);
        let asked = first_slot.and_then(|id| self.slots.get_mut(usize::from(id.0)));
        let mut fuel = None;
        let verdict = match asked {
            None => Verdict::Passed,
            Some(slot) if self.observers.is_none() => {
                slot.answer(access, self.vcpu, sample.as_mut())
            }
            Some(slot) => {
                let (verdict, used) = slot.answer_metered(access, self.vcpu, sample.as_mut());
                fuel = used;
                verdict
            }
        };
        if let (Some(observers), Some(slot)) = (&mut self.observers, first_slot) {
            observers.saw(slot, &verdict, fuel);
        }
        let decision = match verdict {
            Verdict::Answered(outcome) => Decision { outcome, by: first, failed: false },
            Verdict::Failed(outcome) => {
                row.count_failure();
                Decision { outcome, by: first, failed: true }
            }
            Verdict::Passed => {
                let already_asked = usize::from(straight);
                let decision = self.ask_others(access, already_asked, sample.as_mut());
                row = self.counters.row(access.index, decision.by);
                decision
            }
        };
        row.count(access.op);
        if matches!(decision.outcome, Outcome::Fault) {
            row.count_fault();
        }
        if let Some(sample) = &sample {
            row.cost(sample);
        }
        decision
    }

    /// The path of an access that is recorded, or has shadows.
    #[cold]
    fn answer_observed(&mut self, access: MsrAccess) -> Outcome {
        let observers = self.observers.as_ref();
        let lock =
            observers.and_then(|observers| observers.order_lock.for_access(&self.answers, access));
        let turn = lock.as_ref().map(order_lock::take);
        let began = Instant::now();
        let decision = self.decide(access);
        let timing = Timing { began, took: began.elapsed() };
        match &mut self.observers {
            Some(observers) => observers.answered(access, decision, timing, self.vcpu, turn),
            None => decision.outcome,
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
                self.counters.without_msr(Some(id)).count_failure();
            }
            next = [next, woken.next].into_iter().flatten().min();
        }
        if let Some(at) = next {
            self.vm.host.wake_at(vcpu, at);
        }
        now
    }
}

/// A live instance that answers a vCPU, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceInfo {
    /// The plugin.
    pub plugin: Arc<str>,
    /// Whose instance it is; `None` for the VM's.
    pub vcpu: Option<VcpuId>,
    /// Bytes of its memory now.
    pub memory: u64,
}

/// Whose turn it may be, where intercepts change.
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

impl VcpuDispatch {
    /// Brings every plugin to its state after a reset of the guest. To be called
    /// for vCPU 0 first: with it what exits is again what the manifests have, and
    /// then the VM's own instances are reset. A recording has no line for it: a
    /// replay goes on with the state of before.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not take the exits of the manifests. They
    /// stay as they were then; the plugins are reset all the same.
    pub fn reset(&mut self) -> Result<(), ExitsRefused> {
        let set_back = match &self.switches {
            Some(switches) if self.vcpu == VcpuId(0) => switches.set_back(&*self.vm.host),
            _ => Ok(()),
        };
        for (id, slot) in (0..).map(SlotId).zip(&mut self.slots) {
            if slot.reset(self.vcpu) {
                self.counters.without_msr(Some(id)).count_failure();
            }
        }
        if let Some(observers) = &mut self.observers {
            observers.reset(self.vcpu);
        }
        set_back
    }

    /// Fuel that the last access used in the first plugin that claims the MSR
    /// in this direction, or else wants what is unhandled; `None` where nobody
    /// does, or the plugin failed.
    pub fn fuel_used(&mut self, index: MsrIndex, direction: Direction) -> Option<u64> {
        let Answers { map, unknown, invalid, .. } = &*self.answers;
        let first = map.lookup(index, direction).iter().chain(unknown).chain(invalid).next()?;
        self.slots.get_mut(usize::from(first.0))?.with(|instance| instance.fuel_used())
    }

    /// The instances that answer this vCPU now. One that has just failed is not
    /// among them.
    pub fn instances(&mut self) -> Vec<InstanceInfo> {
        let info = |slot: &mut Slot| {
            slot.with(|instance| {
                let plugin = instance.name().clone();
                Some(InstanceInfo { plugin, vcpu: instance.scope(), memory: instance.memory()? })
            })
        };
        self.slots.iter_mut().filter_map(info).collect()
    }

    /// Those of the claimants that have the access turned on.
    ///
    /// An access that the filter sent here, and that nobody has on now, was
    /// pending when its plugin turned it off: it is still that plugin's.
    #[cold]
    fn turned_on(&self, switches: &Intercepts, claimed: &[SlotId], access: MsrAccess) -> Eligible {
        let on = |id: &&SlotId| {
            let name = self.answers.names.get(usize::from(id.0));
            name.is_some_and(|name| switches.is_on(name, access.index, access.op.direction()))
        };
        let on: Vec<SlotId> = claimed.iter().filter(on).copied().collect();
        match access.reason == Reason::Filter && on.is_empty() {
            true => Eligible::All,
            false => Eligible::Only(on),
        }
    }

    /// Asks all but the first `already_asked` claimants in turn, then those who
    /// want what is unhandled, then the policy.
    #[cold]
    fn ask_others(
        &mut self,
        access: MsrAccess,
        already_asked: usize,
        mut sample: Option<&mut Sample>,
    ) -> Decision {
        let answers = &*self.answers;
        let claimed = answers.map.lookup(access.index, access.op.direction());
        let passing = match &self.switches {
            Some(switches) => self.turned_on(switches, claimed, access),
            None => Eligible::All,
        };
        let unhandled = answers.unhandled(access.reason);
        let claimed = claimed.iter().skip(already_asked).filter(|&&id| passing.has(id));
        for &id in claimed.chain(unhandled) {
            let Some(slot) = self.slots.get_mut(usize::from(id.0)) else { continue };
            let (verdict, fuel) = slot.answer_metered(access, self.vcpu, sample.as_deref_mut());
            if let Some(observers) = &mut self.observers {
                observers.saw(id, &verdict, fuel);
            }
            let (outcome, failed) = match verdict {
                Verdict::Passed => continue,
                Verdict::Answered(outcome) => (outcome, false),
                Verdict::Failed(outcome) => {
                    self.counters.row(access.index, Some(id)).count_failure();
                    (outcome, true)
                }
            };
            return Decision { outcome, by: Some(id), failed };
        }
        self.unhandled_log.tell(access, self.vcpu, &self.policy);
        let outcome = self.policy.decide(access);
        if let Some(sample) = sample {
            sample.answered(|| None);
        }
        Decision { outcome, by: None, failed: false }
    }
}
