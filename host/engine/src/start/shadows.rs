//! Starts the shadows beside the plugins in charge.

use std::sync::Arc;

use wasmsr_interface::{Host, VcpuId};

use super::error::StartError;
use super::plugins::StartCalls;
use super::slots::{shared_slots, slots_of};
use crate::engine::{Engine, intercepts};
use crate::msr::SlotId;
use crate::plugin::Surroundings;
use crate::record::{LoggingHost, ReplayHost};
use crate::shadow::{
    Follower, KernelFollower, KernelShadows, Occasion, ReadOnlyHost, ShadowPlan, Shadows, Tally,
    beside,
};
use crate::slots::{SlotPlan, SupervisedInstance};

/// The shadows of a boot.
pub(super) struct StartedShadows {
    /// Of each vCPU.
    pub(super) vcpus: Vec<Shadows>,
    pub(super) tallies: Vec<Arc<Tally>>,
    /// Why others did not start.
    pub(super) absent: Vec<StartError>,
}

/// Starts the shadows, each with the replies that the plugin in charge got.
pub(super) fn start(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    starts: &StartCalls,
) -> StartedShadows {
    let mut started = StartedShadows { vcpus: Vec::new(), tallies: Vec::new(), absent: Vec::new() };
    started.vcpus.resize_with(usize::try_from(vcpus).unwrap_or(usize::MAX), || Shadows(Vec::new()));
    for plan in &engine.shadows {
        let tally = Arc::new(Tally::new(plan));
        started.tallies.push(tally.clone());
        let vm = shadow_surroundings(engine, plan, host, vcpus);
        match start_shadow(engine, plan, &tally, &vm, starts) {
            Ok(followers) => {
                for (shadows, follower) in started.vcpus.iter_mut().zip(followers) {
                    shadows.0.push(follower);
                }
            }
            Err(error) => {
                tally.absent(&error);
                started.absent.push(error);
            }
        }
    }
    started
}

/// The kernel shadows of each vCPU, and what they count.
pub(super) fn kernel_shadows(engine: &Engine, vcpus: u32) -> (Vec<KernelShadows>, Vec<Arc<Tally>>) {
    let tally = |of: &Arc<str>| Arc::new(Tally::kernel(of.clone(), engine.host_kernel));
    let tallies: Vec<Arc<Tally>> = engine.kernel_shadows.iter().map(tally).collect();
    let of_vcpu = |_| {
        let pairs = engine.kernel_shadows.iter().zip(&tallies);
        let followers = pairs.map(|(of, tally)| KernelFollower {
            leaders: leaders(engine, of),
            tally: tally.clone(),
        });
        KernelShadows::new(followers.collect())
    };
    ((0..vcpus).map(of_vcpu).collect(), tallies)
}

/// The slots of a plugin in charge.
fn leaders(engine: &Engine, of: &str) -> Vec<SlotId> {
    let slots = (0..).map(SlotId).zip(engine.routes.names.iter());
    slots.filter(|(_, name)| ***name == *of).map(|(slot, _)| slot).collect()
}

/// Starts a shadow for each vCPU.
fn start_shadow(
    engine: &Engine,
    plan: &ShadowPlan,
    tally: &Arc<Tally>,
    vm: &Surroundings,
    starts: &StartCalls,
) -> Result<Vec<Follower>, StartError> {
    let mut new_instance = |slot: &SlotPlan, scope| {
        let start = || SupervisedInstance::new(&slot.plugin, vm, scope);
        let (instance, changes) = beside(starts.of(&plan.of, scope), start);
        let instance = instance.map_err(|error| StartError::of(&slot.plugin, &error))?;
        tally.changed(Occasion::Start(scope), changes);
        Ok(instance)
    };
    let shared = shared_slots(&plan.slots, &mut new_instance)?;
    let leaders = leaders(engine, &plan.of);
    let follower = |vcpu| {
        Ok(Follower {
            of: plan.of.clone(),
            scope: plan.scope(),
            leaders: leaders.clone(),
            routes: plan.routes.clone(),
            slots: slots_of(vcpu, &plan.slots, &shared, &mut new_instance)?,
            tally: tally.clone(),
        })
    };
    (0..vm.vcpus).map(VcpuId).map(follower).collect()
}

/// A host that gives a shadow the replies that the plugin in charge got, and that the
/// shadow cannot change.
fn shadow_surroundings(
    engine: &Engine,
    plan: &ShadowPlan,
    host: &Arc<dyn Host>,
    vcpus: u32,
) -> Surroundings {
    let read_only: Arc<dyn Host> = Arc::new(ReadOnlyHost(host.clone()));
    let replayed: Arc<dyn Host> = Arc::new(ReplayHost::new(plan.of.clone(), read_only));
    let host = Arc::new(LoggingHost::new(replayed, plan.plugin.name.clone()));
    let intercepts = intercepts(std::slice::from_ref(&plan.plugin), &engine.policy);
    Surroundings { host, intercepts, vcpus }
}
