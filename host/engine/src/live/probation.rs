//! The probation of a set: how it ends, and the way back.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::carry::keep_intercepts;
use super::exchange::{Former, Parked, Retired, Taking, former_slots, in_order, take_apart};
use super::host::holding;
use super::set::Sources;
use super::trial::{Trial, Verdict};
use super::vm::{Live, State, Swapped};
use crate::record::{CallLog, SwapCause};
use crate::shadow::{ShadowTallies, Shadows};
use crate::start::{Followers, Watchers, kernel_shadows};

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
        let watchers = Watchers { recorder: state.recorder.as_ref(), ..Watchers::default() };
        let watch = state.set.watch(&self.0.site, generation, &watchers);
        for own in &mut self.hold_all() {
            let observers = &mut own.dispatch.chain.observers;
            let Followers { shadows, kernel } = Followers::take(observers);
            let (former, rest): (Vec<_>, Vec<_>) =
                shadows.0.into_iter().partition(|one| one.is_former);
            retired.add_shadows(Shadows(former));
            *observers = watch.observers(Followers { shadows: Shadows(rest), kernel });
        }
        let tallies = &mut state.sources.shadows.0;
        tallies.truncate(tallies.len().saturating_sub(trial.former.tallies.len()));
        retired.add(trial.former.parked.into_iter().flat_map(Parked::into_values));
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
        if self.go_back(&mut state, SwapCause::Return, &mut retired).is_some() {
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
        let swapped = self.go_back(&mut state, SwapCause::Rollback, &mut retired);
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
        cause: SwapCause,
        retired: &mut Retired,
    ) -> Option<Swapped> {
        let Trial { former, set, fates, .. } = state.trial.take()?;
        let site = &self.0.site;
        let digest = set.engine.digest();
        let swapped = Swapped::new(state.generation + 1, digest, &fates);
        let noted = state.swap_to_note(&set.engine, digest, cause, &fates);
        let (dispatches, metrics) = set.dispatches(site);
        let (kernel, tallies) = kernel_shadows(&set.engine, site.vcpus);
        let watchers = Watchers { recorder: state.recorder.as_ref(), ..Watchers::default() };
        let watch = set.watch(site, swapped.generation, &watchers);
        let taking = Taking { set: &set, site, watch: &watch };
        let Former { plans, parked, .. } = former;

        let mut cells = self.hold_all();
        let began = Instant::now();
        keep_intercepts(&state.set, &set, &fates);
        let ready = dispatches.into_iter().zip(kernel).zip(parked);
        for (own, ((dispatch, kernel), mut old)) in cells.iter_mut().zip(ready) {
            let (mut new, followed) = take_apart(&state.set, own);
            retired.add_shadows(former_slots(&plans, followed.shadows, &mut old));
            let kernel = followed.kernel.for_next_set(kernel);
            let followers = Followers { shadows: Shadows::default(), kernel };
            let slots = in_order(&set, &mut old, &mut new).unwrap_or_default();
            retired.add_dispatch(taking.take_charge(own, dispatch, slots, followers));
            retired.add(new.into_values());
        }
        state.set.step_down(&fates);
        set.intercepts.take_charge();
        holding(|| taking.announce(&mut cells));
        if let Some((recorder, line)) = noted {
            recorder.swap(line, CallLog::default());
        }
        let cut = began.elapsed();
        drop(cells);

        let shadows = ShadowTallies(tallies);
        let sources = Sources { engine: set.engine.clone(), metrics, shadows };
        self.install(state, set, sources);
        state.former = None;
        Some(Swapped { cut, ..swapped })
    }
}
