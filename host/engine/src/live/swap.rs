//! Puts another set in charge of a running VM, or shows what would come of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering::Release;
use std::time::{Duration, Instant};

use super::carry::{Carried, carry_to_shadows, carry_vcpu};
use super::cell::Dispatching;
use super::error::SwapError;
use super::exchange::{
    Former, Parked, Retired, Taking, by_key, followers, former, in_order, take_apart,
};
use super::fate::{Fate, fates, same_cpuid};
use super::host::{Role, preparing};
use super::set::{Followers, Prepared, Set, Sources, Watch};
use super::trial::Trial;
use super::vm::{Live, State, Swapped};
use crate::engine::Engine;
use crate::intercepts::{FilterChange, Intercepts};
use crate::metrics::Metrics;
use crate::record::during;
use crate::shadow::{Judge, ShadowTallies, Terms};

/// Why a set comes into charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Swap,
    Return,
    Rollback,
}

pub(super) type Fates = BTreeMap<Arc<str>, Fate>;
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
        self.put_in_charge(next, terms, Occasion::Swap)
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
        self.put_in_charge(&former, None, Occasion::Rollback)
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
        let mut carried = Carried::default();
        // Nothing else changes the set meanwhile: no other operation runs, and no set is on
        // probation.
        let (old, generation) = {
            let state = self.state();
            (state.set.engine.clone(), state.generation + 1)
        };
        for cell in &self.0.cells {
            let mut own = cell.lock();
            carry_vcpu(&old, &mut own.dispatch, &mut prepared, fates, &mut carried)?;
        }
        held_back(&prepared.set)?;
        let vm = &*self.0.site.vm;
        let filter = prepared.set.intercepts.check(vm).map_err(SwapError::Filter)?;
        note_fresh(fates, &carried);
        let swapped = Swapped {
            generation,
            digest: prepared.set.engine.digest(),
            plugins: fates.iter().map(|(name, fate)| (name.clone(), *fate)).collect(),
            lost_timers: carried.lost_timers,
            lost_intercepts: Vec::new(),
            filter,
            cut: Duration::ZERO,
        };
        Ok(swapped)
    }

    fn put_in_charge(
        &self,
        next: &Arc<Engine>,
        terms: Option<&Terms>,
        occasion: Occasion,
    ) -> Result<Swapped, SwapError> {
        let vm = &*self.0.site.vm;
        let (prepared, mut fates) = self.prepare(next)?;
        let exits = prepared.set.intercepts.clone();
        self.0.two_sets.store(true, Release);
        let widened = exits.widen(vm).map_err(SwapError::Filter);
        let done = widened.and_then(|widened| {
            let mut retired = Retired::default();
            let cut = self.cut(prepared, &mut fates, terms, occasion, &mut retired);
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
                let state = self.state();
                let in_charge = state.set.intercepts.clone();
                drop(state);
                exits.forget();
                if let Err(refused) = in_charge.narrow(vm) {
                    tracing::warn!(
                        "what exits stays wider than the set in charge needs: {refused}"
                    );
                }
                self.0.two_sets.store(false, Release);
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
        occasion: Occasion,
        retired: &mut Retired,
    ) -> Result<Swapped, SwapError> {
        let (dispatches, metrics) = prepared.set.dispatches(&self.0.site);
        let digest = prepared.set.engine.digest();
        let mut state = self.state();
        if state.ended {
            return Err(SwapError::Ended);
        }
        let mut cells = self.hold_all();
        let began = Instant::now();
        let mut carried = Carried::default();
        let (done, carry_calls) = during(|| {
            cells.iter_mut().try_for_each(|own| {
                let dispatch = &mut own.dispatch;
                carry_vcpu(&state.set.engine, dispatch, &mut prepared, fates, &mut carried)?;
                carry_to_shadows(&state.set.engine, dispatch, &mut prepared);
                Ok::<(), SwapError>(())
            })
        });
        done?;
        held_back(&prepared.set)?;
        note_fresh(fates, &carried);

        // From here on nothing fails.
        let generation = state.generation + 1;
        let mut calls = prepared.starts.all;
        let next = &prepared.set;
        let lost_intercepts = carry_intercepts(&state.set, next, fates);
        let former = match terms {
            Some(_) => former(&state.set, fates),
            None => Former::default(),
        };
        let judge = terms.map(|terms| Arc::new(self.judge(terms, &state.sources.metrics)));
        let recorder = state.recorder.clone();
        let watch = Watch {
            recorder: recorder.as_ref(),
            judge: judge.as_ref(),
            former: &former.plans,
            generation,
        };
        let order_lock = next.order_lock(&watch);
        let taking = Taking { set: next, site: &self.0.site, watch: &watch };
        let mut tallies = prepared.shadows.tallies;
        tallies.extend(former.tallies.iter().cloned());
        let mut parked = Vec::new();
        let ready = prepared.slots.into_iter().zip(prepared.shadows.vcpus);
        let ready = ready.zip(prepared.kernel).zip(dispatches);
        for (own, (((slots, mut shadows), kernel), dispatch)) in cells.iter_mut().zip(ready) {
            let (mut old, followed) = take_apart(&state.set, own);
            retired.add_shadows(followed.shadows);
            let kernel = followed.kernel.for_next_set(kernel);
            let slots = in_order(next, &mut by_key(next, slots), &mut old).unwrap_or_default();
            shadows.0.extend(followers(next, &former, &mut old));
            let followers = Followers { shadows, kernel };
            let before = taking.take_charge(own, dispatch, slots, followers, &order_lock);
            retired.add_dispatch(before);
            match terms {
                Some(_) => parked.push(old),
                None => retired.add(old.into_values()),
            }
        }
        for (name, host) in &state.set.hosts {
            if fates.get(name) != Some(&Fate::Kept) {
                host.set_role(Role::Shadow);
            }
        }
        next.intercepts.take_charge();
        taking.announce(&mut cells);
        calls.append(carry_calls);
        self.note_swap(&state, next, occasion, fates, calls);
        let cut = began.elapsed();
        drop(cells);

        let sources =
            Sources { engine: next.engine.clone(), metrics, shadows: ShadowTallies(tallies) };
        let old_sources = std::mem::replace(&mut state.sources, sources);
        let old = std::mem::replace(&mut state.set, prepared.set);
        state.past = Some((state.generation, old_sources.clone()));
        state.generation = generation;
        state.former = Some(old.engine.clone());
        state.trial = judge.map(|judge| {
            let former = Former { parked, ..former };
            Trial { judge, former, set: old, fates: fates.clone(), sources: old_sources }
        });
        self.rename(&state);
        drop(state);
        self.0.changed.notify_all();
        let changed = fates.iter().filter(|(_, fate)| **fate != Fate::Kept);
        self.forget_disabled(changed.map(|(name, _)| name.clone()));
        Ok(Swapped {
            generation,
            digest,
            plugins: fates.iter().map(|(name, fate)| (name.clone(), *fate)).collect(),
            lost_timers: carried.lost_timers,
            lost_intercepts,
            filter: FilterChange::Unchanged,
            cut,
        })
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

    pub(super) fn rename(&self, state: &State) {
        let names = state.set.engine.plugins.iter().map(|plugin| plugin.name.clone());
        let mut own = self.0.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *own = names.collect();
    }
}

/// Gives the plugins of `next` what those of `old` have turned on. Names those that lose
/// some of it.
pub(super) fn carry_intercepts(old: &Set, next: &Set, fates: &Fates) -> Vec<Arc<str>> {
    let mut lost = Vec::new();
    for plugin in &next.engine.plugins {
        let name = &plugin.name;
        match fates.get(name) {
            Some(Fate::Kept) => {
                next.intercepts.carry(name, old.id);
                if let Some(handle) = next.handles.get(name) {
                    handle.move_to(next.id);
                }
            }
            Some(Fate::Carried) if plugin.held.intercept && next.intercepts.carry(name, old.id) => {
                lost.push(name.clone());
            }
            _ => {}
        }
    }
    lost
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

/// The slots of former plugins that are nobody's shadow.
pub(super) fn unused(parked: Vec<Parked>) -> impl Iterator<Item = crate::slots::Slot> {
    parked.into_iter().flat_map(BTreeMap::into_values)
}

pub(super) fn handle_back(old: &Set, from: &Set, fates: &Fates) {
    for (name, fate) in fates {
        if *fate == Fate::Kept {
            old.intercepts.carry(name, from.id);
            if let Some(handle) = old.handles.get(name) {
                Intercepts::move_to(handle, old.id);
            }
        }
    }
}
