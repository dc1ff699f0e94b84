//! The probation of a set: how it ends, and the way back.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::exchange::{Former, Retired, Taking, former_slots, in_order, take_apart};
use super::fate::Fate;
use super::host::{Role, holding};
use super::set::{Followers, Sources, Watch};
use super::swap::{Occasion, handle_back, unused};
use super::trial::{Trial, Verdict};
use super::vm::{Live, State, Swapped};
use crate::intercepts::FilterChange;
use crate::record::CallLog;
use crate::shadow::{ShadowTallies, Shadows};
use crate::start::kernel_shadows;

impl Live {
    /// Whether a set is on probation, its number, and the accesses that it has answered.
    pub fn probation(&self) -> Option<(u64, u64)> {
        let state = self.state();
        state.trial.as_ref().map(|trial| (state.generation, trial.judge.accesses()))
    }

    /// Waits until the probation of the set in charge is over: after `time`, after as many
    /// accesses as its terms say, or when it must go, which it then has. To be called once
    /// after a swap with terms, by the thread that swapped; what exits only for the set that
    /// lost ends here.
    pub fn supervise(&self, generation: u64, time: Option<Duration>) -> Verdict {
        let deadline = time.and_then(|time| Instant::now().checked_add(time));
        let mut state = self.state();
        loop {
            if let Some((of, verdict)) = &state.verdict
                && *of == generation
            {
                let verdict = verdict.clone();
                drop(state);
                let _operation = self.operation();
                if self.state().trial.is_none() {
                    self.leave_alone();
                }
                return verdict;
            }
            let Some(trial) = state.trial.as_ref().filter(|_| state.generation == generation)
            else {
                return Verdict::Ended;
            };
            if state.ended {
                return Verdict::Ended;
            }
            let now = Instant::now();
            if trial.judge.verdict().is_some() {
                // A guest that makes no further access does not do it.
                drop(state);
                self.return_if_condemned();
                state = self.state();
                continue;
            }
            if trial.judge.has_seen_enough() || deadline.is_some_and(|deadline| now >= deadline) {
                drop(state);
                self.pass(generation);
                state = self.state();
                continue;
            }
            // Without a deadline it looks again all the same: a call may have come before
            // this thread waited.
            let wait = deadline.map_or(Duration::from_secs(1), |deadline| deadline - now);
            let wait = wait.min(Duration::from_secs(1));
            let waited = self.0.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The set stays: the former one is let go.
    fn pass(&self, generation: u64) {
        let mut retired = Retired::default();
        let mut state = self.state();
        if state.generation != generation {
            return;
        }
        let Some(trial) = state.trial.take_if(|trial| trial.judge.verdict().is_none()) else {
            return;
        };
        let recorder = state.recorder.clone();
        let watch = Watch { recorder: recorder.as_ref(), judge: None, former: &[], generation };
        let order_lock = state.set.order_lock(&watch);
        for own in &mut self.hold_all() {
            let Followers { shadows, kernel } = Followers::take(&mut own.dispatch.chain.observers);
            let (former, rest): (Vec<_>, Vec<_>) =
                shadows.0.into_iter().partition(|one| one.is_former);
            retired.add_shadows(Shadows(former));
            let rest = Followers { shadows: Shadows(rest), kernel };
            own.dispatch.chain.observers =
                state.set.observers(&self.0.site, &watch, &order_lock, rest);
        }
        let tallies = &mut state.sources.shadows.0;
        tallies.truncate(tallies.len().saturating_sub(trial.former.tallies.len()));
        retired.add(unused(trial.former.parked));
        state.verdict = Some((generation, Verdict::Kept));
        drop(state);
        drop(retired);
        tracing::info!("generation {generation} has passed its probation");
    }

    /// Goes back to the former set, if the one in charge must go. Any thread may do so that
    /// holds no lock of a vCPU: all that it takes is there.
    pub(super) fn return_if_condemned(&self) {
        let mut state = self.state();
        let verdict = state.trial.as_ref().and_then(|trial| trial.judge.verdict().cloned());
        let Some(cause) = verdict else { return };
        let generation = state.generation;
        let mut retired = Retired::default();
        if self.go_back(&mut state, Occasion::Return, &mut retired).is_some() {
            tracing::warn!(
                "generation {generation} is taken back: {cause}; generation {} is the set before \
                 it",
                state.generation
            );
            state.verdict = Some((generation, Verdict::Returned(cause)));
        }
        drop(state);
        self.0.changed.notify_all();
        drop(retired);
    }

    /// Ends a probation by hand; `None` if there is none.
    pub(super) fn return_by_hand(&self) -> Option<Swapped> {
        let mut state = self.state();
        let generation = state.generation;
        let mut retired = Retired::default();
        let swapped = self.go_back(&mut state, Occasion::Rollback, &mut retired);
        if swapped.is_some() {
            state.verdict = Some((generation, Verdict::RolledBack));
        }
        drop(state);
        self.0.changed.notify_all();
        drop(retired);
        swapped
    }

    /// Puts the former plugins, which went on as shadows, in charge again.
    fn go_back(
        &self,
        state: &mut State,
        occasion: Occasion,
        retired: &mut Retired,
    ) -> Option<Swapped> {
        let Trial { former, set, fates, sources, .. } = state.trial.take()?;
        let began;
        let generation = state.generation + 1;
        let (dispatches, metrics) = set.dispatches(&self.0.site);
        let recorder = state.recorder.clone();
        let watch = Watch { recorder: recorder.as_ref(), judge: None, former: &[], generation };
        let order_lock = set.order_lock(&watch);
        let (kernel, tallies) = kernel_shadows(&set.engine, self.0.site.vcpus);
        let mut kernel = kernel.into_iter();
        let taking = Taking { set: &set, site: &self.0.site, watch: &watch };
        {
            let mut cells = self.hold_all();
            began = Instant::now();
            handle_back(&set, &state.set, &fates);
            let parts = former.parked.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
            let former =
                Former { plans: former.plans, tallies: former.tallies, parked: Vec::new() };
            for ((own, parked), dispatch) in cells.iter_mut().zip(parts).zip(dispatches) {
                let (mut new, followed) = take_apart(&state.set, own);
                let mut old = parked.unwrap_or_default();
                retired.add_shadows(former_slots(&former, followed.shadows, &mut old));
                let kernel = kernel.next().unwrap_or_default();
                let kernel = followed.kernel.for_next_set(kernel);
                let followers = Followers { shadows: Shadows::default(), kernel };
                let slots = in_order(&set, &mut old, &mut new).unwrap_or_default();
                let before = taking.take_charge(own, dispatch, slots, followers, &order_lock);
                retired.add_dispatch(before);
                retired.add(new.into_values());
            }
            for (name, host) in &state.set.hosts {
                if fates.get(name) != Some(&Fate::Kept) {
                    host.set_role(Role::Shadow);
                }
            }
            set.intercepts.take_charge();
            holding(|| taking.announce(&mut cells));
            self.note_swap(state, &set, occasion, &fates, CallLog::default());
        }
        let cut = began.elapsed();
        let digest = set.engine.digest();
        let next = Sources { metrics, shadows: ShadowTallies(tallies), ..sources };
        state.past = Some((state.generation, std::mem::replace(&mut state.sources, next)));
        state.set = set;
        state.generation = generation;
        state.former = None;
        self.rename(state);
        Some(Swapped {
            generation,
            digest,
            plugins: fates.iter().map(|(name, fate)| (name.clone(), *fate)).collect(),
            lost_timers: Vec::new(),
            lost_intercepts: Vec::new(),
            filter: FilterChange::Unchanged,
            cut,
        })
    }
}
