//! One vCPU's shadows: each is put the accesses of the plugin in charge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmsr_interface::{MsrAccess, Outcome, VcpuId};

use super::beside::beside;
use super::difference::{Occasion, Shown, alike};
use super::judge::Compared;
use super::tally::Tally;
use crate::manifest::Scope;
use crate::msr::SlotId;
use crate::plugin::Answer;
use crate::record::CallLog;
use crate::slots::{Routes, Slot, SupervisedInstance};

/// The shadows that follow one vCPU.
#[derive(Default)]
pub(crate) struct Shadows(pub(crate) Vec<Follower>);

/// One shadow with the instances that a vCPU reaches.
pub(crate) struct Follower {
    pub(crate) of: Arc<str>,
    /// As [`ShadowPlan::scope`](super::ShadowPlan::scope).
    pub(crate) scope: Scope,
    /// The slots of the plugin in charge.
    pub(crate) leaders: Vec<SlotId>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) tally: Arc<Tally>,
    /// Whether it is the former version of the plugin in charge, which is on probation.
    pub(crate) is_former: bool,
}

/// One plugin's part in an access.
pub(crate) struct Asked {
    /// Where it sits.
    pub(crate) slot: SlotId,
    /// What it answered, or the outcome of its failure.
    pub(crate) answer: Result<Answer, Outcome>,
    /// Fuel that it used; `None` after a failure.
    pub(crate) fuel: Option<u64>,
}

impl Shadows {
    /// Puts an access to those shadows of the plugin that was `asked` that have this
    /// scope. The access took `took` and made the host calls in `log`. Says what the former
    /// version of the plugin made of it, if that is among them.
    pub(crate) fn follow(
        &mut self,
        scope: Scope,
        asked: &Asked,
        access: MsrAccess,
        log: &CallLog,
        took: Duration,
        vcpu: VcpuId,
    ) -> Option<Compared> {
        let mut former = None;
        for follower in self.of_scope(scope).filter(|f| f.leaders.contains(&asked.slot)) {
            let compared = follower.follow(asked, access, log, took, vcpu);
            if follower.is_former {
                former = compared;
            }
        }
        former
    }

    /// Serves the timers of the shadows of this scope that are due at `now`, when
    /// those of the plugins in charge were served with the host calls in `log`. Says
    /// when the next timer is due, and which former plugins would have changed something
    /// else.
    pub(crate) fn wake(
        &mut self,
        scope: Scope,
        now: u64,
        log: &CallLog,
        vcpu: VcpuId,
    ) -> (Option<u64>, Vec<Arc<str>>) {
        let mut next = Vec::new();
        let mut differ = Vec::new();
        for follower in self.of_scope(scope) {
            let (at, differs) = follower.wake(now, log, vcpu);
            next.extend(at);
            differ.extend((differs && follower.is_former).then(|| follower.of.clone()));
        }
        (next.into_iter().min(), differ)
    }

    /// Brings the shadows to their state after a reset of the guest, at which the
    /// plugins in charge made the host calls in `log`.
    pub(crate) fn reset(&mut self, log: &CallLog, vcpu: VcpuId) {
        for follower in &mut self.0 {
            let slots = &mut follower.slots;
            let reset = || slots.iter_mut().map(|slot| u64::from(slot.reset(vcpu))).sum::<u64>();
            let (failures, changes) = beside(log.of(&follower.of), reset);
            follower.tally.sums().counts.failures += failures;
            follower.tally.changed(Occasion::Reset(vcpu), changes);
        }
    }

    /// Says what the log does not say yet of the shadows' lines and failures.
    pub(crate) fn settle_logs(&mut self) {
        let slots = self.0.iter_mut().flat_map(|follower| &mut follower.slots);
        slots.for_each(|slot| slot.with(SupervisedInstance::settle_log));
    }

    fn of_scope(&mut self, scope: Scope) -> impl Iterator<Item = &mut Follower> {
        self.0.iter_mut().filter(move |follower| follower.scope == scope)
    }
}

impl Follower {
    fn follow(
        &mut self,
        asked: &Asked,
        access: MsrAccess,
        log: &CallLog,
        took: Duration,
        vcpu: VcpuId,
    ) -> Option<Compared> {
        let began = Instant::now();
        let occasion = Occasion::Access(access, vcpu);
        let shown = Shown(&asked.answer);
        let Some(slot) = self.slot(access).and_then(|id| self.slots.get_mut(usize::from(id.0)))
        else {
            let mut sums = self.tally.sums();
            sums.counts.accesses += 1;
            sums.counts.unclaimed += 1;
            self.tally.tell(sums, occasion, &shown, &"does not claim it");
            return None;
        };
        let answer = || slot.with(|instance| (instance.answer(access, vcpu), instance.fuel_used()));
        let ((own, fuel), changes) = beside(log.of(&self.of), answer);
        let added = began.elapsed();

        let mut sums = self.tally.sums();
        let counts = &mut sums.counts;
        counts.accesses += 1;
        counts.timed += 1;
        counts.took += added;
        counts.took_in_charge += took;
        counts.failures += u64::from(own.is_err());
        if let (Some(own), Some(in_charge)) = (fuel, asked.fuel) {
            counts.metered += 1;
            counts.fuel = counts.fuel.saturating_add(own);
            counts.fuel_in_charge = counts.fuel_in_charge.saturating_add(in_charge);
        }
        let would_fault = matches!(&own, Ok(Answer::Fault) | Err(Outcome::Fault));
        if !alike(&asked.answer, &own) {
            counts.answers += 1;
            self.tally.tell(sums, occasion, &shown, &Shown(&own));
            return Some(Compared { differs: true, would_fault });
        }
        drop(sums);
        let differs = changes.is_some();
        self.tally.changed(occasion, changes);
        Some(Compared { differs, would_fault })
    }

    fn wake(&mut self, now: u64, log: &CallLog, vcpu: VcpuId) -> (Option<u64>, bool) {
        let began = Instant::now();
        let slots = &mut self.slots;
        let wake = || slots.iter_mut().map(|slot| slot.wake(now, vcpu)).collect::<Vec<_>>();
        let (woken, changes) = beside(log.of(&self.of), wake);
        let failed = woken.iter().map(|woken| u64::from(woken.failed));
        let mut sums = self.tally.sums();
        sums.counts.failures += failed.sum::<u64>();
        sums.counts.took += began.elapsed();
        drop(sums);
        let differs = changes.is_some();
        self.tally.changed(Occasion::Timers(vcpu), changes);
        (woken.iter().filter_map(|woken| woken.next).min(), differs)
    }

    /// The slot of the shadow that the engine would ask first.
    fn slot(&self, access: MsrAccess) -> Option<SlotId> {
        self.routes.asked(access).next()
    }
}
