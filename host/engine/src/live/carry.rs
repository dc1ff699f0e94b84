//! Carries the state of plugins from one set to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmsr_interface::VcpuId;

use super::error::SwapError;
use super::fate::Fate;
use super::host::holding;
use super::set::Prepared;
use crate::dispatch::VcpuDispatch;
use crate::engine::Engine;
use crate::plugin::{InstanceError, Plugin};
use crate::slots::{Slot, SlotPlan, SupervisedInstance};
use crate::state::InstanceState;

/// What was carried, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Plugins that saved something.
    pub(super) saved: Vec<Arc<str>>,
    /// Plugins that had a timer which the new version cannot have.
    pub(super) lost_timers: Vec<Arc<str>>,
}

/// Gives each plugin of `next` whose state is carried what the one in charge saves for this
/// vCPU; what is the VM's, with vCPU 0. The vCPU's lock must be held.
pub(super) fn carry_vcpu(
    old: &Engine,
    dispatch: &mut VcpuDispatch,
    next: &mut Prepared,
    fates: &BTreeMap<Arc<str>, Fate>,
    carried: &mut Carried,
) -> Result<(), SwapError> {
    let vcpu = dispatch.chain.vcpu;
    let Some(slots) = usize::try_from(vcpu.0).ok().and_then(|vcpu| next.slots.get_mut(vcpu)) else {
        return Ok(());
    };
    let plans = &next.set.engine.slots;
    for (plan, slot) in old.slots.iter().zip(&mut dispatch.chain.slots) {
        let name = &plan.plugin.name;
        if fates.get(name) != Some(&Fate::Carried) {
            continue;
        }
        let Some(new) = plans.iter().find(|plan| plan.plugin.name == *name) else { continue };
        let (state, timer) = holding(|| save(slot, vcpu, &plan.plugin, &new.plugin))?;
        if let Some(state) = state {
            let restored = holding(|| restore(plans, slots, &state, vcpu));
            restored.map_err(|why| SwapError::Restore {
                plugin: name.clone(),
                version: version(&new.plugin),
                from: state.version.clone(),
                why,
            })?;
            if !carried.saved.contains(name) {
                carried.saved.push(name.clone());
            }
        }
        if let Some((thread, at)) = timer
            && !take_over_timer(plans, slots, plan, (thread, at))
            && !carried.lost_timers.contains(name)
        {
            carried.lost_timers.push(name.clone());
        }
    }
    Ok(())
}

type Timer = Option<(VcpuId, u64)>;

/// What an instance saves for the new version, and the timer for which it waits.
fn save(
    slot: &mut Slot,
    vcpu: VcpuId,
    old: &Plugin,
    new: &Plugin,
) -> Result<(Option<InstanceState>, Timer), SwapError> {
    let becomes = version(new);
    slot.with(|instance| {
        if instance.scope().is_none() && vcpu != VcpuId(0) {
            return Ok((None, None));
        }
        let timer = instance.pending_timer();
        match instance.save(vcpu, Some(&becomes)) {
            Ok(state) => Ok((state, timer)),
            Err(error) => Err(SwapError::Save {
                plugin: instance.name().clone(),
                version: version(old),
                why: error.to_string(),
            }),
        }
    })
}

/// Gives a state to the instance of its scope.
fn restore(
    plans: &[SlotPlan],
    slots: &mut [Option<Slot>],
    state: &InstanceState,
    vcpu: VcpuId,
) -> Result<(), String> {
    let scope = state.vcpu.map(VcpuId);
    for (plan, slot) in plans.iter().zip(slots) {
        let Some(slot) = slot.as_mut().filter(|_| *plan.plugin.name == *state.plugin) else {
            continue;
        };
        let restored: Option<Result<(), InstanceError>> = slot
            .with(|instance| (instance.scope() == scope).then(|| instance.restore(state, vcpu)));
        if let Some(restored) = restored {
            return restored.map_err(|error| error.to_string());
        }
    }
    let scope = if scope.is_some() { "vcpu" } else { "vm" };
    Err(format!("it claims no MSR with scope \"{scope}\", whose state that is"))
}

/// Has the new instance of a slot called when the old one would have been; `false` if it
/// cannot have timers.
fn take_over_timer(
    plans: &[SlotPlan],
    slots: &mut [Option<Slot>],
    old: &SlotPlan,
    (thread, at): (VcpuId, u64),
) -> bool {
    let mut new = plans.iter().zip(slots).filter_map(|(plan, slot)| {
        (plan.plugin.name == old.plugin.name && plan.scope == old.scope).then_some(slot.as_mut()?)
    });
    new.next().is_some_and(|slot| {
        slot.with(|instance| {
            instance.take_over_timer(thread, at);
            instance.pending_timer().is_some()
        })
    })
}

/// Gives the shadows of a set the state of the plugins that they follow.
pub(super) fn carry_to_shadows(old: &Engine, dispatch: &mut VcpuDispatch, next: &mut Prepared) {
    let vcpu = dispatch.chain.vcpu;
    let Some(shadows) =
        usize::try_from(vcpu.0).ok().and_then(|vcpu| next.shadows.vcpus.get_mut(vcpu))
    else {
        return;
    };
    for follower in &mut shadows.0 {
        for (plan, slot) in old.slots.iter().zip(&mut dispatch.chain.slots) {
            if plan.plugin.name != follower.of {
                continue;
            }
            let state = slot.with(|instance| {
                let is_here = instance.scope().is_some() || vcpu == VcpuId(0);
                is_here.then(|| holding(|| instance.save(vcpu, None)).ok().flatten()).flatten()
            });
            let Some(state) = state else { continue };
            let scope = state.vcpu.map(VcpuId);
            for own in &mut follower.slots {
                let restore = |instance: &mut SupervisedInstance| {
                    let is_its = instance.scope() == scope;
                    is_its.then(|| holding(|| instance.restore(&state, vcpu)))
                };
                if let Some(Err(error)) = own.with(restore) {
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

pub(super) fn version(plugin: &Plugin) -> String {
    plugin.manifest.plugin.version.to_string()
}
