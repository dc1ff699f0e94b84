//! Puts another set in charge of a running VM, or shows what would come of it.

use std::mem;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use wasmsr_interface::Host as _;

use super::carry::{Carried, Carrying, carry, carry_intercepts, restore, to_shadows};
use super::cell::Dispatching;
use super::error::SwapError;
use super::exchange::{
    Former, Retired, Taking, by_key, followers as followers_of, former, in_order, take_apart,
};
use super::fate::{Fate, Fates, fates, same_cpuid};
use super::host::{Role, holding, preparing};
use super::set::{Prepared, Set, Sources};
use super::trial::Trial;
use super::vm::{Live, Swapped};
use crate::engine::Engine;
use crate::intercepts::FilterChange;
use crate::metrics::Metrics;
use crate::record::{SwapCause, during};
use crate::shadow::{Judge, Terms};
use crate::start::{Followers, Watchers};
use crate::state::SavedState;

type Guards<'a> = Vec<MutexGuard<'a, Dispatching>>;

impl Live {
    /// Does all of a swap but the swap itself: starts the plugins of `next`, gives them the
    /// state of those in charge, and asks whether the filter holds both sets. The guest
    /// notices nothing but that its vCPUs may wait while their plugins save.
    ///
    /// # Errors
    /// [`SwapError`], as [`swap`](Live::swap) has it.
    pub fn rehearse(&self, next: &Arc<Engine>) -> Result<Swapped, SwapError> {
        let _operation = self.operation();
        let (prepared, mut fates) = self.prepare(next)?;
        let exits = prepared.set.intercepts.clone();
        let rehearsed = self.rehearse_prepared(prepared, &mut fates);
        exits.forget();
        rehearsed
    }

    /// Puts `next` in charge: all vCPUs at once, between two accesses of each. Returns when
    /// that is done. With `terms` the set is then on probation: the former plugins go on as
    /// shadows, and [`supervise`](Live::supervise) says how it ends.
    ///
    /// # Errors
    /// [`SwapError`]; the set in charge then goes on untouched.
    pub fn swap(&self, next: &Arc<Engine>, terms: Option<&Terms>) -> Result<Swapped, SwapError> {
        let _operation = self.operation();
        self.put_in_charge(next, terms, SwapCause::Swap)
    }

    /// Puts the set in charge that was so before, with the state of the present one, as far
    /// as its plugins can write it for the older version. A probation ends with it.
    ///
    /// # Errors
    /// [`SwapError`]; the set in charge then goes on untouched.
    pub fn roll_back(&self) -> Result<Swapped, SwapError> {
        let _operation = self.operation();
        if let Some(swapped) = self.return_by_hand() {
            return Ok(swapped);
        }
        let former = self.state().former.clone().ok_or(SwapError::NoFormer)?;
        self.put_in_charge(&former, None, SwapCause::Rollback)
    }

    /// Starts the plugins of `next` beside those in charge.
    fn prepare(&self, next: &Arc<Engine>) -> Result<(Prepared, Fates), SwapError> {
        let site = &self.0.site;
        let (set, fates) = {
            let mut state = self.state();
            if state.ended {
                return Err(SwapError::Ended);
            }
            if state.trial.is_some() {
                return Err(SwapError::OnProbation(state.generation));
            }
            let old = &state.set;
            if !same_cpuid(old.engine.cpuid(), next.cpuid()) {
                return Err(SwapError::Cpuid);
            }
            let fates = fates(&old.engine, next);
            let id = state.sets + 1;
            let plugins = next.plugins.iter().map(|plugin| (&plugin.name, &plugin.manifest));
            let exits = old.intercepts.further_set(id, plugins, next.policy.unclaimed());
            let kept = |name: &str| {
                let goes_on = fates.get(name) == Some(&Fate::Kept);
                let host = old.hosts.get(name).filter(|_| goes_on)?;
                Some((host.clone(), old.handles.get(name)?.clone()))
            };
            let set = Set::new(site, next, (id, exits), Role::Aside, kept);
            state.sets = id;
            (set, fates)
        };
        let exits = set.intercepts.clone();
        let prepared = preparing(|| set.start(site, &fates));
        let prepared = prepared.map_err(SwapError::from).and_then(|prepared| {
            held_back(&prepared.set)?;
            Ok(prepared)
        });
        match prepared {
            Ok(prepared) => Ok((prepared, fates)),
            Err(error) => {
                exits.forget();
                Err(error)
            }
        }
    }

    fn rehearse_prepared(
        &self,
        mut prepared: Prepared,
        fates: &mut Fates,
    ) -> Result<Swapped, SwapError> {
        let vm = &*self.0.site.vm;
        // Nothing else changes the set meanwhile: no other operation runs, and no set is on
        // probation.
        let (old, generation) = {
            let state = self.state();
            (state.set.engine.clone(), state.generation + 1)
        };
        let now = vm.monotonic_ns();
        let mut saved = SavedState::default();
        let carrying = Carrying { old: &old, next: &prepared.set.engine, fates, now };
        for cell in &self.0.cells {
            let mut own = cell.lock();
            holding(|| carrying.save(&mut own.dispatch, &mut saved))?;
        }
        let carried = preparing(|| restore(&mut prepared, &saved, now))?;
        held_back(&prepared.set)?;
        let filter = prepared.set.intercepts.check(vm).map_err(SwapError::Filter)?;
        note_fresh(fates, &carried);
        let swapped = Swapped::new(generation, prepared.set.engine.digest(), fates);
        Ok(Swapped { lost_timers: carried.lost_timers, filter, ..swapped })
    }

    fn put_in_charge(
        &self,
        next: &Arc<Engine>,
        terms: Option<&Terms>,
        cause: SwapCause,
    ) -> Result<Swapped, SwapError> {
        let vm = &*self.0.site.vm;
        let (prepared, mut fates) = self.prepare(next)?;
        let exits = prepared.set.intercepts.clone();
        self.0.two_sets.store(true, Release);
        let widened = exits.widen(vm).map_err(SwapError::Filter);
        let done = widened.and_then(|widened| {
            let mut retired = Retired::default();
            let cut = self.cut(prepared, &mut fates, terms, cause, &mut retired);
            // Freeing instances takes long, and no lock is held here.
            drop(retired);
            Ok((cut?, widened))
        });
        match done {
            Ok((mut swapped, widened)) => {
                swapped.filter = widened;
                if terms.is_none() {
                    let narrowed = self.leave_alone();
                    if narrowed == FilterChange::Changed {
                        swapped.filter = narrowed;
                    }
                }
                Ok(swapped)
            }
            Err(error) => {
                self.leave_alone();
                Err(error)
            }
        }
    }

    /// Nothing exits for another set than the one in charge any more.
    pub(super) fn leave_alone(&self) -> FilterChange {
        let in_charge = self.state().set.intercepts.clone();
        let narrowed = in_charge.narrow(&*self.0.site.vm).unwrap_or_else(|refused| {
            tracing::warn!("what exits stays wider than the set in charge needs: {refused}");
            FilterChange::Unchanged
        });
        in_charge.forget_others();
        self.0.two_sets.store(false, Release);
        narrowed
    }

    /// Takes the locks of all vCPUs, in their order.
    pub(super) fn hold_all(&self) -> Guards<'_> {
        self.0.cells.iter().map(|cell| cell.lock()).collect()
    }

    /// The cut. Until state has been carried, a refusal changes nothing.
    fn cut(
        &self,
        mut prepared: Prepared,
        fates: &mut Fates,
        terms: Option<&Terms>,
        cause: SwapCause,
        retired: &mut Retired,
    ) -> Result<Swapped, SwapError> {
        let site = &self.0.site;
        let mut state = self.state();
        if state.ended {
            return Err(SwapError::Ended);
        }
        // What can be made before is made here: vCPUs wait from `hold_all` on.
        let generation = state.generation + 1;
        let digest = prepared.set.engine.digest();
        let noted = state.swap_to_note(&prepared.set.engine, digest, cause, fates);
        let former = terms.map(|_| former(&state.set, fates)).unwrap_or_default();
        let judge = terms.map(|terms| Arc::new(self.judge(terms, &state.sources.metrics)));
        let recorder = state.recorder.as_ref();
        let watchers = Watchers { recorder, judge: judge.as_ref(), former: &former.plans };
        let watch = prepared.set.watch(site, generation, &watchers);
        let now = site.vm.monotonic_ns();

        let mut cells = self.hold_all();
        let began = Instant::now();
        let (carried, carry_calls) =
            during(|| holding(|| carry(&state.set.engine, &mut cells, &mut prepared, fates, now)));
        let carried = carried?;
        for (own, followers) in cells.iter_mut().zip(&mut prepared.followers) {
            holding(|| to_shadows(&mut own.dispatch, followers));
        }
        held_back(&prepared.set)?;

        // From here on nothing fails.
        note_fresh(fates, &carried);
        let Prepared { set: next, plans, started, followers, starts } = prepared;
        let lost_intercepts = carry_intercepts(&state.set, &next, fates);
        let taking = Taking { set: &next, site, watch: &watch };
        let mut parked = Vec::new();
        let ready = started.vcpus.into_iter().zip(followers);
        for (own, (mut dispatch, following)) in cells.iter_mut().zip(ready) {
            let (mut old, followed) = take_apart(&state.set, own);
            retired.add_shadows(followed.shadows);
            let mut new = by_key(&plans, mem::take(&mut dispatch.chain.slots));
            let slots = in_order(&next, &mut new, &mut old).unwrap_or_default();
            let Followers { mut shadows, kernel } = following;
            shadows.0.extend(followers_of(&next, &former, &mut old));
            let kernel = followed.kernel.for_next_set(kernel);
            let before = taking.take_charge(own, dispatch, slots, Followers { shadows, kernel });
            retired.add_dispatch(before);
            match terms {
                Some(_) => parked.push(old),
                None => retired.add(old.into_values()),
            }
        }
        state.set.step_down(fates);
        next.intercepts.take_charge();
        taking.announce(&mut cells);
        if let Some((recorder, line)) = noted {
            let mut calls = starts.all;
            calls.append(carry_calls);
            recorder.swap(line, calls);
        }
        let cut = began.elapsed();
        drop(cells);

        let mut shadows = started.shadows;
        shadows.0.extend(former.tallies.iter().cloned());
        let sources = Sources { engine: next.engine.clone(), metrics: started.metrics, shadows };
        let old = self.install(&mut state, next, sources);
        state.former = Some(old.engine.clone());
        state.trial = judge.map(|judge| {
            let former = Former { parked, ..former };
            Trial { judge, former, set: old, fates: fates.clone() }
        });
        drop(state);
        self.0.changed.notify_all();
        let changed = fates.iter().filter(|(_, fate)| **fate != Fate::Kept);
        self.forget_disabled(changed.map(|(name, _)| name.clone()));
        let swapped = Swapped::new(generation, digest, fates);
        Ok(Swapped { lost_timers: carried.lost_timers, lost_intercepts, cut, ..swapped })
    }

    /// A judge that has vCPUs look before their next access when it is over.
    fn judge(&self, terms: &Terms, former: &Metrics) -> Judge {
        let rows = former.msrs();
        let faults = rows.iter().map(|row| row.faults).sum();
        let accesses = rows.iter().map(|row| row.reads.saturating_add(row.writes)).sum();
        let live = Arc::downgrade(&self.0);
        Judge::new(terms, (faults, accesses), move || {
            if let Some(shared) = live.upgrade() {
                let live = Live(shared);
                live.call_attention();
                live.0.changed.notify_all();
            }
        })
    }
}

/// Refuses a set whose plugins write more than is held back.
fn held_back(set: &Set) -> Result<(), SwapError> {
    let overflowed = set.hosts.iter().find(|(_, host)| host.held.overflowed());
    overflowed.map_or(Ok(()), |(name, _)| Err(SwapError::TooManyWrites(name.clone())))
}

/// A plugin that saved nothing was not carried.
fn note_fresh(fates: &mut Fates, carried: &Carried) {
    for (name, fate) in fates {
        if *fate == Fate::Carried && !carried.saved.contains(name) {
            *fate = Fate::Fresh;
        }
    }
}
