//! The cut: with the locks of all vCPUs held, the slots of one set become those of another.

use std::collections::BTreeMap;
use std::mem;
use std::ops::DerefMut;
use std::sync::Arc;

use wasmsr_interface::{Host, VcpuId};

use super::cell::Dispatching;
use super::fate::{Fate, Fates};
use super::host::{Role, holding};
use super::set::{Set, Site};
use crate::dispatch::VcpuDispatch;
use crate::manifest::Scope;
use crate::shadow::{Follower, ShadowPlan, Shadows, Tally};
use crate::slots::{Slot, SlotPlan};
use crate::start::{Followers, Watch, leaders};

/// What is no longer used, to be dropped when vCPUs run again: that takes the kernel long.
#[derive(Default)]
pub(super) struct Retired {
    slots: Vec<Slot>,
    shadows: Vec<Shadows>,
    dispatches: Vec<VcpuDispatch>,
}

impl Retired {
    pub(super) fn add(&mut self, slots: impl IntoIterator<Item = Slot>) {
        self.slots.extend(slots);
    }

    pub(super) fn add_dispatch(&mut self, dispatch: VcpuDispatch) {
        self.dispatches.push(dispatch);
    }

    pub(super) fn add_shadows(&mut self, shadows: Shadows) {
        self.shadows.push(shadows);
    }
}

/// The plugins of the set that was in charge before, while the new one is on probation.
#[derive(Default)]
pub(super) struct Former {
    /// Those that the new set has as well, as its shadows.
    pub(super) plans: Vec<ShadowPlan>,
    pub(super) tallies: Vec<Arc<Tally>>,
    /// Of each vCPU: those that the new set does not have.
    pub(super) parked: Vec<Parked>,
}

/// Slots by plugin and scope.
pub(super) type Parked = BTreeMap<(Arc<str>, bool), Slot>;

fn key(plan: &SlotPlan) -> (Arc<str>, bool) {
    (plan.plugin.name.clone(), plan.scope == Scope::Vm)
}

/// Plans of shadows for the plugins of `old` that changed.
pub(super) fn former(old: &Set, fates: &Fates) -> Former {
    let mut former = Former::default();
    for plugin in &old.engine.plugins {
        if matches!(fates.get(&plugin.name), Some(Fate::Carried | Fate::Fresh)) {
            let plan = ShadowPlan::of_former(plugin);
            former.tallies.push(Arc::new(Tally::new(&plan)));
            former.plans.push(plan);
        }
    }
    former
}

/// Takes all slots out of a vCPU's dispatch, and what follows it.
pub(super) fn take_apart(set: &Set, own: &mut Dispatching) -> (Parked, Followers) {
    let slots = by_key(&set.engine.slots, mem::take(&mut own.dispatch.chain.slots));
    (slots, Followers::take(&mut own.dispatch.chain.observers))
}

/// The slots of these plans by plugin and scope.
pub(super) fn by_key(plans: &[SlotPlan], slots: impl IntoIterator<Item = Slot>) -> Parked {
    plans.iter().map(key).zip(slots).collect()
}

/// The former plugins of a vCPU as shadows of those that came after them.
pub(super) fn followers(
    next: &Set,
    former: &Former,
    old: &mut Parked,
) -> impl Iterator<Item = Follower> {
    former.plans.iter().zip(&former.tallies).filter_map(|(plan, tally)| {
        let slots: Option<Box<[Slot]>> =
            plan.slots.iter().map(|slot| old.remove(&key(slot))).collect();
        Some(Follower {
            of: plan.of.clone(),
            scope: plan.scope(),
            leaders: leaders(&next.engine, &plan.of),
            routes: plan.routes.clone(),
            slots: slots?,
            tally: tally.clone(),
            is_former: true,
        })
    })
}

/// Puts former plugins that were shadows back to the other slots.
pub(super) fn former_slots(plans: &[ShadowPlan], shadows: Shadows, slots: &mut Parked) -> Shadows {
    let (back, rest): (Vec<_>, Vec<_>) = shadows.0.into_iter().partition(|one| one.is_former);
    for follower in back {
        let plan = plans.iter().find(|plan| plan.of == follower.of);
        let plans = plan.map(|plan| plan.slots.as_slice()).unwrap_or_default();
        slots.extend(by_key(plans, follower.slots));
    }
    Shadows(rest)
}

/// The slots of a set in their order: its own, and those that go on. `None` if one is
/// missing.
pub(super) fn in_order(set: &Set, own: &mut Parked, going_on: &mut Parked) -> Option<Vec<Slot>> {
    let plans = set.engine.slots.iter();
    plans.map(|plan| own.remove(&key(plan)).or_else(|| going_on.remove(&key(plan)))).collect()
}

/// What a vCPU gets when a set takes charge.
pub(super) struct Taking<'a> {
    pub(super) set: &'a Set,
    pub(super) site: &'a Site,
    pub(super) watch: &'a Watch,
}

impl Taking<'_> {
    /// Puts `dispatch` with these slots in charge of a vCPU, and returns what was.
    pub(super) fn take_charge(
        &self,
        own: &mut Dispatching,
        mut dispatch: VcpuDispatch,
        slots: Vec<Slot>,
        followers: Followers,
    ) -> VcpuDispatch {
        dispatch.chain.slots = slots.into_boxed_slice();
        dispatch.chain.observers = self.watch.observers(followers);
        mem::replace(&mut own.dispatch, dispatch)
    }

    /// Says to the plugins of the set that they are in charge, and carries out what they
    /// changed before.
    pub(super) fn announce(&self, cells: &mut [impl DerefMut<Target = Dispatching>]) {
        for (name, host) in &self.set.hosts {
            host.set_role(Role::InCharge);
            let held = host.held.take();
            for (gpa, data) in held.memory {
                if let Err(error) = self.site.vm.write_memory(gpa, &data) {
                    tracing::warn!("plugin {name}, swapped in: {error}");
                }
            }
            for write in held.msrs {
                let cell = usize::try_from(write.vcpu.0).ok().and_then(|at| cells.get_mut(at));
                if let Some(cell) = cell {
                    cell.due.push(write);
                }
            }
        }
        for (number, cell) in (0..).zip(cells) {
            let vcpu = VcpuId(number);
            let mut next: Option<u64> = (!cell.due.is_empty()).then_some(0);
            for slot in &mut cell.dispatch.chain.slots {
                let timer = slot.with(|instance| instance.pending_timer());
                next = match timer {
                    Some((thread, at)) if thread == vcpu => Some(next.map_or(at, |n| n.min(at))),
                    Some((thread, at)) => {
                        self.site.vm.wake_at(thread, at);
                        next
                    }
                    None => next,
                };
            }
            if let Some(at) = next {
                holding(|| self.site.vm.wake_at(vcpu, at));
            }
        }
    }
}
