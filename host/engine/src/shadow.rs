//! Shadows: plugins that are put the accesses of another, which stays in
//! charge. Their answers are compared and discarded, what they would change is
//! withheld.
//!
//! A shadow is given the replies that the plugin in charge was given to the
//! same host calls, so that a clock read a moment later is no difference.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmsr_interface::{MsrAccess, VcpuId};

use crate::claims::Answers;
use crate::difference::{Effects, Occasion, Shown, Subject, alike};
use crate::error::StartError;
use crate::msr::SlotId;
use crate::plugin::{Plugin, Scope};
use crate::record::call_log::{self, CallLog};
use crate::record::{HostCall, replay_host};
use crate::slot::{Slot, SlotPlan, Verdict};

/// Differences that are kept as examples, of different subjects.
const MOST_EXAMPLES: usize = 16;

/// A shadow, before anything lives.
pub(crate) struct ShadowPlan {
    pub(crate) plugin: Arc<Plugin>,
    /// The plugin in charge.
    pub(crate) of: Arc<str>,
    pub(crate) slots: Vec<SlotPlan>,
    pub(crate) answers: Arc<Answers>,
}

impl ShadowPlan {
    /// The VM's, if any of its instances is: it then sees accesses in the order
    /// in which the plugin in charge does.
    pub(crate) fn scope(&self) -> Scope {
        match self.slots.iter().any(|slot| slot.scope == Scope::Vm) {
            true => Scope::Vm,
            false => Scope::Vcpu,
        }
    }
}

/// What a shadow has shown so far, over all vCPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// The shadow's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The plugin in charge.
    pub of: Arc<str>,
    /// Accesses that both were put.
    pub accesses: u64,
    /// Those that the shadow answered otherwise.
    pub answers: u64,
    /// Those that it answered alike, and starts, resets and timers, at which it
    /// would have changed something else: the guest's memory, KVM's MSRs, what
    /// exits, timers.
    pub effects: u64,
    /// Those that it does not claim.
    pub unclaimed: u64,
    /// Those, resets and timers, at which it failed; and 1 if it did not start.
    pub failures: u64,
    /// Accesses that the shadow was called for.
    pub timed: u64,
    /// What shadowing them, and timers, added to the time of the vCPUs.
    pub took: Duration,
    /// The time of these accesses without that. The shadow's is not to be held
    /// against it: no host call of a shadow reaches the host.
    pub took_in_charge: Duration,
    /// Accesses at which the fuel of both is known: neither failed.
    pub metered: u64,
    /// The shadow's fuel for these.
    pub fuel: u64,
    /// Fuel of the plugin in charge for these.
    pub fuel_in_charge: u64,
    /// One difference for each of the first subjects: MSRs and directions,
    /// starts, resets, timers.
    pub examples: Vec<String>,
}

impl ShadowCounts {
    /// Adds the counts of another, whoever that is.
    pub fn add(&mut self, other: &ShadowCounts) {
        self.accesses = self.accesses.saturating_add(other.accesses);
        self.answers = self.answers.saturating_add(other.answers);
        self.effects = self.effects.saturating_add(other.effects);
        self.unclaimed = self.unclaimed.saturating_add(other.unclaimed);
        self.failures = self.failures.saturating_add(other.failures);
        self.timed = self.timed.saturating_add(other.timed);
        self.took = self.took.saturating_add(other.took);
        self.took_in_charge = self.took_in_charge.saturating_add(other.took_in_charge);
        self.metered = self.metered.saturating_add(other.metered);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.fuel_in_charge = self.fuel_in_charge.saturating_add(other.fuel_in_charge);
    }

    /// What the shadow adds to the time of an access, its timers included.
    pub fn mean(&self) -> Option<Duration> {
        self.mean_of(self.took)
    }

    /// Mean time of an access without that.
    pub fn mean_in_charge(&self) -> Option<Duration> {
        self.mean_of(self.took_in_charge)
    }

    /// The shadow's mean fuel.
    pub fn mean_fuel(&self) -> Option<u64> {
        self.fuel.checked_div(self.metered)
    }

    /// Mean fuel of the plugin in charge, for the same accesses.
    pub fn mean_fuel_in_charge(&self) -> Option<u64> {
        self.fuel_in_charge.checked_div(self.metered)
    }

    fn mean_of(&self, time: Duration) -> Option<Duration> {
        let nanos = time.as_nanos().checked_div(self.timed.into())?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// The shadows of a running VM, for whoever wants to know how they do.
#[derive(Clone, Default)]
pub struct ShadowTallies(pub(crate) Vec<Arc<Tally>>);

impl ShadowTallies {
    /// The counts so far, in the order of the profile.
    pub fn counts(&self) -> Vec<ShadowCounts> {
        self.0.iter().map(|tally| tally.counts()).collect()
    }
}

/// One vCPU's shadows.
pub(crate) struct Shadows(pub(crate) Vec<Follower>);

/// One shadow with the instances that a vCPU reaches.
pub(crate) struct Follower {
    pub(crate) of: Arc<str>,
    /// As [`ShadowPlan::scope`].
    pub(crate) scope: Scope,
    /// The slots of the plugin in charge.
    pub(crate) leaders: Vec<SlotId>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) slots: Box<[Slot]>,
    pub(crate) tally: Arc<Tally>,
}

/// An access that a plugin was put.
pub(crate) struct Asked {
    pub(crate) slot: SlotId,
    pub(crate) verdict: Verdict,
    /// What it used, where that is known.
    pub(crate) fuel: Option<u64>,
}

/// What the plugin in charge changed, and what its shadow would have.
pub(crate) struct Changes {
    in_charge: Vec<HostCall>,
    shadow: Vec<HostCall>,
}

/// How a shadow does.
pub(crate) struct Tally {
    plugin: Arc<Plugin>,
    sums: Mutex<Sums>,
}

struct Sums {
    counts: ShadowCounts,
    /// What examples were given of.
    told: BTreeSet<Subject>,
}

impl Shadows {
    /// Puts an access to those shadows of whom was `asked` that have this scope.
    /// The access took `took` and came to these host calls.
    pub(crate) fn follow(
        &mut self,
        scope: Scope,
        asked: &Asked,
        access: MsrAccess,
        log: &CallLog,
        took: Duration,
        vcpu: VcpuId,
    ) {
        for follower in self.of_scope(scope).filter(|f| f.leaders.contains(&asked.slot)) {
            follower.follow(asked, access, log, took, vcpu);
        }
    }

    /// Serves the timers of the shadows of this scope, by the clock by which
    /// those of the plugins in charge were served, with these host calls. Says
    /// when the next is due.
    pub(crate) fn wake(
        &mut self,
        scope: Scope,
        now: u64,
        log: &CallLog,
        vcpu: VcpuId,
    ) -> Option<u64> {
        self.of_scope(scope).filter_map(|follower| follower.wake(now, log, vcpu)).min()
    }

    /// Brings the shadows to their state after a reset of the guest, at which
    /// the plugins in charge made these host calls.
    pub(crate) fn reset(&mut self, log: &CallLog, vcpu: VcpuId) {
        for follower in &mut self.0 {
            let slots = &mut follower.slots;
            let reset = || slots.iter_mut().map(|slot| u64::from(slot.reset(vcpu))).sum::<u64>();
            let (failures, changes) = beside(log.of(&follower.of), reset);
            follower.tally.sums().counts.failures += failures;
            follower.tally.changed(Occasion::Reset(vcpu), changes);
        }
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
    ) {
        let began = Instant::now();
        let occasion = Occasion::Access(access, vcpu);
        let shown = Shown(&asked.verdict);
        let Some(slot) = self.slot(access).and_then(|id| self.slots.get_mut(usize::from(id.0)))
        else {
            let mut sums = self.tally.sums();
            sums.counts.accesses += 1;
            sums.counts.unclaimed += 1;
            return self.tally.tell(sums, occasion, &shown, &"does not claim it");
        };
        let ((own, fuel), changes) =
            beside(log.of(&self.of), || slot.answer_metered(access, vcpu, None));
        let added = began.elapsed();

        let mut sums = self.tally.sums();
        let counts = &mut sums.counts;
        counts.accesses += 1;
        counts.timed += 1;
        counts.took += added;
        counts.took_in_charge += took;
        counts.failures += u64::from(matches!(own, Verdict::Failed(_)));
        if let (Some(own), Some(in_charge)) = (fuel, asked.fuel) {
            counts.metered += 1;
            counts.fuel = counts.fuel.saturating_add(own);
            counts.fuel_in_charge = counts.fuel_in_charge.saturating_add(in_charge);
        }
        if !alike(&asked.verdict, &own) {
            counts.answers += 1;
            self.tally.tell(sums, occasion, &shown, &Shown(&own));
        } else {
            drop(sums);
            self.tally.changed(occasion, changes);
        }
    }

    fn wake(&mut self, now: u64, log: &CallLog, vcpu: VcpuId) -> Option<u64> {
        let began = Instant::now();
        let slots = &mut self.slots;
        let wake = || slots.iter_mut().map(|slot| slot.wake(now, vcpu)).collect::<Vec<_>>();
        let (woken, changes) = beside(log.of(&self.of), wake);
        let failed = woken.iter().map(|woken| u64::from(woken.failed));
        let mut sums = self.tally.sums();
        sums.counts.failures += failed.sum::<u64>();
        sums.counts.took += began.elapsed();
        drop(sums);
        self.tally.changed(Occasion::Timers(vcpu), changes);
        woken.iter().filter_map(|woken| woken.next).min()
    }

    /// Whose turn it is in the shadow, as the engine asks plugins.
    fn slot(&self, access: MsrAccess) -> Option<SlotId> {
        self.answers.asked(access).next()
    }
}

/// Has a shadow do what the plugin in charge has done, with its replies. Says
/// what each changed, if that is not the same.
pub(crate) fn beside<R>(replies: CallLog, f: impl FnOnce() -> R) -> (R, Option<Changes>) {
    let in_charge: Vec<HostCall> = replies.effects().cloned().collect();
    let (result, _) = replay_host::with(replies.calls, f);
    let own = call_log::take();
    let shadow: Vec<HostCall> = own.effects().cloned().collect();
    let is_same = agree((&in_charge, replies.cut), (&shadow, own.cut));
    (result, (!is_same).then_some(Changes { in_charge, shadow }))
}

/// Whether two lists are the same, as far as they are known: the end of one that
/// was cut is not.
fn agree(one: (&[HostCall], bool), other: (&[HostCall], bool)) -> bool {
    let ((shorter, is_cut), (longer, _)) =
        if one.0.len() <= other.0.len() { (one, other) } else { (other, one) };
    longer.starts_with(shorter) && (is_cut || shorter.len() == longer.len())
}

impl Tally {
    pub(crate) fn new(plan: &ShadowPlan) -> Self {
        let about = &plan.plugin.manifest.plugin;
        let counts = ShadowCounts {
            plugin: about.name.clone(),
            version: about.version.to_string(),
            of: plan.of.clone(),
            ..ShadowCounts::default()
        };
        let sums = Mutex::new(Sums { counts, told: BTreeSet::new() });
        Tally { plugin: plan.plugin.clone(), sums }
    }

    /// The shadow did not start.
    pub(crate) fn absent(&self, error: &StartError) {
        let counts = &mut self.sums().counts;
        counts.failures += 1;
        counts.examples.push(format!("it did not start: {error}"));
    }

    /// Counts an occasion at which the shadow would have changed something else.
    pub(crate) fn changed(&self, occasion: Occasion, changes: Option<Changes>) {
        let Some(Changes { in_charge, shadow }) = changes else { return };
        let mut sums = self.sums();
        sums.counts.effects += 1;
        let both = in_charge.iter().zip(&shadow);
        let same = both.take_while(|(one, other)| one == other).count();
        let in_charge = Effects { all: &in_charge, same };
        self.tell(sums, occasion, &in_charge, &Effects { all: &shadow, same });
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a difference, once for each subject.
    fn tell(
        &self,
        mut sums: MutexGuard<'_, Sums>,
        occasion: Occasion,
        in_charge: &dyn fmt::Display,
        shadow: &dyn fmt::Display,
    ) {
        let room = sums.counts.examples.len() < MOST_EXAMPLES;
        if !room || !sums.told.insert(occasion.subject()) {
            return;
        }
        let example = format!("{occasion}: {in_charge}; the shadow: {shadow}");
        tracing::warn!("plugin {} differs: {example}", self.plugin.name);
        sums.counts.examples.push(example);
    }

    fn counts(&self) -> ShadowCounts {
        self.sums().counts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Hex;

    fn timers(times: &[u64]) -> Vec<HostCall> {
        times.iter().map(|&at| HostCall::WakeAt { vcpu: 0, at: Hex(at) }).collect()
    }

    #[test]
    fn what_was_cut_is_compared_as_far_as_it_goes() {
        let check = |one: &[u64], one_cut, other: &[u64], other_cut, expected| {
            let (one, other) = (timers(one), timers(other));
            assert_eq!(agree((&one, one_cut), (&other, other_cut)), expected);
            assert_eq!(agree((&other, other_cut), (&one, one_cut)), expected);
        };
        check(&[1, 2], false, &[1, 2], false, true);
        check(&[1, 2], false, &[1, 3], false, false);
        check(&[1], false, &[1, 2], false, false);
        check(&[1], true, &[1, 2], false, true);
        check(&[1], false, &[1, 2], true, false);
        check(&[2], true, &[1, 2], true, false);
    }
}
