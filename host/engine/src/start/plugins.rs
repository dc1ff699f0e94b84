//! Starts plugins: an instance for each slot of each vCPU.

use std::sync::Arc;

use wasmsr_interface::{Host, VcpuId};

use super::dispatches::{Common, dispatches};
use super::error::StartError;
use super::slots::{shared_slots, slots_of};
use super::started::Started;
use crate::dispatch::{Reports, UnhandledLog, VcpuDispatch};
use crate::engine::{Engine, intercepts};
use crate::plugin::Surroundings;
use crate::record::{CallLog, ENGINE, during};
use crate::shadow::ShadowTallies;
use crate::slots::{SlotPlan, SupervisedInstance};

/// The host as each plugin, by its name, is to see it.
type HostOf<'a> = &'a dyn Fn(&Arc<str>) -> Arc<dyn Host>;

/// The host calls of plugins while they started, one instance after the other.
#[derive(Default)]
pub(crate) struct StartCalls {
    pub(crate) all: CallLog,
    /// The scope of each instance, and where in `all` its calls end.
    ends: Vec<(Option<VcpuId>, usize)>,
}

impl StartCalls {
    pub(crate) fn add(&mut self, scope: Option<VcpuId>, calls: CallLog) {
        self.all.append(calls);
        self.ends.push((scope, self.all.calls.len()));
    }

    /// The calls of the instance of `plugin` for this vCPU; or, if its instances have
    /// another scope, those of all its instances.
    pub(super) fn of(&self, plugin: &str, scope: Option<VcpuId>) -> CallLog {
        let mut own = Vec::new();
        let mut start = 0;
        for &(of, end) in &self.ends {
            if of == scope {
                let calls = self.all.calls.get(start..end).unwrap_or_default();
                own.extend(calls.iter().filter(|call| *call.plugin == *plugin).cloned());
            }
            start = end;
        }
        if own.is_empty() { self.all.of(plugin) } else { self.all.part(own.into_iter()) }
    }
}

/// Starts the plugins alone. The calls are those to
/// [`LoggingHost`](crate::record::LoggingHost)s.
pub(crate) fn start_plugins(
    engine: &Engine,
    host_of: HostOf<'_>,
    vcpus: u32,
) -> Result<(Started, StartCalls), StartError> {
    let intercepts = intercepts(&engine.plugins, &engine.policy);
    let surroundings = |name: &Arc<str>| Surroundings {
        host: host_of(name),
        intercepts: intercepts.clone(),
        vcpus,
    };
    let vm = surroundings(&ENGINE.into());
    let unhandled_log = UnhandledLog::new(vm.host.clone());
    let common = Common { vm, reports: Reports::default(), unhandled_log, strays: None };
    start_slots(engine, &engine.slots, common, &surroundings)
}

/// Starts the plugins of `plans` alone, each with what is around it by its name. All other
/// slots of the engine stay away.
pub(crate) fn start_slots(
    engine: &Engine,
    plans: &[SlotPlan],
    common: Common,
    surroundings: &dyn Fn(&Arc<str>) -> Surroundings,
) -> Result<(Started, StartCalls), StartError> {
    let mut starts = StartCalls::default();
    let mut new_instance = |plan: &SlotPlan, scope| {
        let vm = surroundings(&plan.plugin.name);
        let (instance, calls) = during(|| SupervisedInstance::new(&plan.plugin, &vm, scope));
        starts.add(scope, calls);
        instance.map_err(|error| StartError::of(&plan.plugin, &error))
    };
    let shared = shared_slots(plans, &mut new_instance)?;
    let (mut vcpus, metrics) = dispatches(engine, &common);
    for VcpuDispatch { chain, .. } in &mut vcpus {
        chain.slots = slots_of(chain.vcpu, plans, &shared, &mut new_instance)?;
    }
    let shadows = ShadowTallies::default();
    Ok((Started { vcpus, metrics, reports: common.reports, shadows }, starts))
}
