//! Carries the state of plugins from one set to the next.

use std::ops::DerefMut;
use std::sync::Arc;

use wasmsr_interface::VcpuId;

use super::cell::Dispatching;
use super::error::SwapError;
use super::fate::{Fate, Fates};
use super::set::{Prepared, Set};
use crate::dispatch::VcpuDispatch;
use crate::engine::Engine;
use crate::save::{RestoreError, Saving, restore_one, restore_timer};
use crate::slots::SupervisedInstance;
use crate::start::Followers;
use crate::state::{InstanceState, SavedState};

/// A set whose state is carried to another.
pub(super) struct Carrying<'a> {
    pub(super) old: &'a Engine,
    pub(super) next: &'a Engine,
    pub(super) fates: &'a Fates,
    /// On the host's monotonic clock.
    pub(super) now: u64,
}

/// What was carried, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Plugins that saved something.
    pub(super) saved: Vec<Arc<str>>,
    /// Plugins that had a timer which the new version cannot have.
    pub(super) lost_timers: Vec<Arc<str>>,
}

impl Carrying<'_> {
    /// Adds what the plugins of a vCPU in charge save for the next set to `saved`. The
    /// vCPU's lock must be held.
    pub(super) fn save(
        &self,
        own: &mut VcpuDispatch,
        saved: &mut SavedState,
    ) -> Result<(), SwapError> {
        let chosen = |name: &str| self.fates.get(name) == Some(&Fate::Carried);
        let saving = Saving { chosen: &chosen, next: Some(self.next), now: self.now };
        let first = own.chain.vcpu == VcpuId(0);
        saving.save(own, first, saved).map_err(|error| SwapError::Save {
            version: self.old.version_of(&error.name).unwrap_or_default(),
            plugin: error.name,
            why: error.why,
        })
    }
}

/// Gives the plugins of `next` what those in charge save. The locks of all vCPUs must be
/// held.
pub(super) fn carry(
    old: &Engine,
    cells: &mut [impl DerefMut<Target = Dispatching>],
    next: &mut Prepared,
    fates: &Fates,
    now: u64,
) -> Result<Carried, SwapError> {
    let mut saved = SavedState::default();
    let carrying = Carrying { old, next: &next.set.engine, fates, now };
    for own in cells {
        carrying.save(&mut own.dispatch, &mut saved)?;
    }
    restore(next, &saved, now)
}

/// Gives the plugins of the next set what was saved for them at `now`.
pub(super) fn restore(
    next: &mut Prepared,
    saved: &SavedState,
    now: u64,
) -> Result<Carried, SwapError> {
    let mut carried = Carried::default();
    let vcpus = &mut next.started.vcpus;
    for state in &saved.instances {
        restore_one(vcpus, state).map_err(|error| SwapError::Restore {
            plugin: state.plugin.as_str().into(),
            version: next.set.engine.version_of(&state.plugin).unwrap_or_default(),
            from: state.version.clone(),
            why: refusal(error, state),
        })?;
        add(&mut carried.saved, &state.plugin);
    }
    for timer in &saved.timers {
        if !restore_timer(vcpus, timer, now) {
            add(&mut carried.lost_timers, &timer.plugin);
        }
    }
    Ok(carried)
}

fn add(names: &mut Vec<Arc<str>>, name: &str) {
    if !names.iter().any(|known| **known == *name) {
        names.push(name.into());
    }
}

fn refusal(error: RestoreError, state: &InstanceState) -> String {
    match error {
        RestoreError::Refused { why, .. } => why,
        _ => {
            let scope = if state.vcpu.is_some() { "vcpu" } else { "vm" };
            format!("it claims no MSR with scope \"{scope}\", whose state that is")
        }
    }
}

/// Gives the shadows that will follow a vCPU the state of the plugins that they follow.
pub(super) fn to_shadows(own: &mut VcpuDispatch, shadows: &mut Followers) {
    let vcpu = own.chain.vcpu;
    for follower in &mut shadows.shadows.0 {
        let mut saved = SavedState::default();
        let leader = |name: &str| *name == *follower.of;
        let saving = Saving { chosen: &leader, next: None, now: 0 };
        // A leader that does not save has a shadow that starts afresh.
        let _ = saving.save(own, vcpu == VcpuId(0), &mut saved);
        for state in &saved.instances {
            let scope = state.vcpu.map(VcpuId);
            let restore = |instance: &mut SupervisedInstance| {
                (instance.scope() == scope).then(|| instance.restore(state, vcpu))
            };
            for slot in &mut follower.slots {
                if let Some(Err(error)) = slot.with(restore) {
                    tracing::warn!(
                        "the shadow of {} starts afresh: it does not take the state of the \
                         plugin in charge: {error}",
                        follower.of
                    );
                }
            }
        }
    }
}

/// Gives the plugins of `next` what those of `old` have turned on. Names those that lose
/// some of it.
pub(super) fn carry_intercepts(old: &Set, next: &Set, fates: &Fates) -> Vec<Arc<str>> {
    keep_intercepts(old, next, fates);
    let mut lost = Vec::new();
    for plugin in &next.engine.plugins {
        let name = &plugin.name;
        let is_carried = fates.get(name) == Some(&Fate::Carried) && plugin.held.intercept;
        if is_carried && next.intercepts.carry(name, old.id) {
            lost.push(name.clone());
        }
    }
    lost
}

/// Leaves to the plugins that go on in `next` what they have turned on in `old`.
pub(super) fn keep_intercepts(old: &Set, next: &Set, fates: &Fates) {
    for (name, fate) in fates {
        if *fate == Fate::Kept {
            next.intercepts.carry(name, old.id);
            if let Some(handle) = next.handles.get(name) {
                handle.move_to(next.id);
            }
        }
    }
}
