//! Starts the shadows beside the plugins in charge.

use std::sync::Arc;

use wasmsr_interface::{Host, VcpuId};

use super::error::StartError;
use super::plugins::StartCalls;
use super::slots::{shared_slots, slots_of};
use super::watch::Followers;
use crate::engine::{Engine, intercepts};
use crate::msr::SlotId;
use crate::plugin::Surroundings;
use crate::record::{LoggingHost, ReplayHost};
use crate::shadow::{
    Follower, KernelFollower, KernelShadows, Occasion, ReadOnlyHost, ShadowPlan, ShadowTallies,
    Shadows, Tally, beside,
};
use crate::slots::{SlotPlan, SupervisedInstance};

/// The shadows of a boot, those that are the kernel's too.
pub(crate) struct StartedShadows {
    /// Of each vCPU.
    pub(crate) vcpus: Vec<Followers>,
    pub(crate) tallies: ShadowTallies,
    /// Why others did not start.
    pub(crate) absent: Vec<StartError>,
}

impl StartedShadows {
    /// Says in the log why others did not start.
    pub(crate) fn warn_of_absent(&self) {
        for error in &self.absent {
            tracing::warn!("{error}; the VM runs without this shadow");
        }
    }
}

/// Starts the shadows, each with the replies that the plugin in charge got.
pub(crate) fn start(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    starts: &StartCalls,
) -> StartedShadows {
    let (kernel, kernel_tallies) = kernel_shadows(engine, vcpus);
    let followers = |kernel| Followers { shadows: Shadows::default(), kernel };
    let mut started = StartedShadows {
        vcpus: kernel.into_iter().map(followers).collect(),
        tallies: ShadowTallies::default(),
        absent: Vec::new(),
    };
    for plan in &engine.shadows {
        let tally = Arc::new(Tally::new(plan));
        started.tallies.0.push(tally.clone());
        let vm = shadow_surroundings(engine, plan, host, vcpus);
        match start_shadow(engine, plan, &tally, &vm, starts) {
            Ok(followers) => {
                for (own, follower) in started.vcpus.iter_mut().zip(followers) {
                    own.shadows.0.push(follower);
                }
            }
            Err(error) => {
                tally.absent(&error);
                started.absent.push(error);
            }
        }
    }
    started.tallies.0.extend(kernel_tallies);
    started
}

/// The kernel shadows of each vCPU, and what they count.
pub(crate) fn kernel_shadows(engine: &Engine, vcpus: u32) -> (Vec<KernelShadows>, Vec<Arc<Tally>>) {
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
pub(crate) fn leaders(engine: &Engine, of: &str) -> Vec<SlotId> {
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
            is_former: false,
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
