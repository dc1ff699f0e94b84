//! The dispatch of each vCPU, before it has instances.

use std::sync::Arc;

use wasmsr_interface::VcpuId;

use crate::dispatch::{Chain, Reports, Strays, UnhandledLog, VcpuDispatch};
use crate::engine::Engine;
use crate::metrics::{Counters, Metrics};
use crate::plugin::Surroundings;

/// What the vCPUs of a VM have in common.
pub(crate) struct Common {
    /// What the engine itself has of the VM.
    pub(crate) vm: Surroundings,
    pub(crate) reports: Reports,
    pub(crate) unhandled_log: UnhandledLog,
    /// Only where plugins can be swapped.
    pub(crate) strays: Option<Strays>,
}

/// What answers each vCPU once it has its slots, and what that counts.
pub(crate) fn dispatches(engine: &Engine, common: &Common) -> (Vec<VcpuDispatch>, Metrics) {
    let switches = engine.plugins.iter().any(|plugin| plugin.held.intercept);
    let switches = switches.then(|| common.vm.intercepts.clone());
    let dispatch = |vcpu| VcpuDispatch {
        chain: Chain {
            vcpu,
            routes: engine.routes.clone(),
            slots: Box::default(),
            switches: switches.clone(),
            policy: engine.policy.clone(),
            unhandled_log: common.unhandled_log.clone(),
            observers: None,
            strays: common.strays.clone(),
        },
        counters: Arc::new(Counters::new(engine.slots.len())),
        vm: common.vm.clone(),
        reports: common.reports.clone(),
    };
    let vcpus: Vec<_> = (0..common.vm.vcpus).map(VcpuId).map(dispatch).collect();
    let counters = vcpus.iter().map(|vcpu| vcpu.counters.clone()).collect();
    let metrics = Metrics { vcpus: counters, plugins: engine.routes.names.clone() };
    (vcpus, metrics)
}
