//! A set of plugins of a running VM, and how one is made ready.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use wasmsr_interface::{Host, VcpuId};

use super::fate::Fate;
use super::host::{PluginHost, Role, VmHost};
use crate::dispatch::{Chain, Observers, OrderLock, Reports, Strays, UnhandledLog, VcpuDispatch};
use crate::engine::Engine;
use crate::intercepts::Intercepts;
use crate::manifest::Scope;
use crate::metrics::{Counters, Metrics};
use crate::plugin::Surroundings;
use crate::record::{ENGINE, LoggingHost, Recorder, during};
use crate::shadow::{Judge, KernelFollower, KernelShadows, ShadowPlan, ShadowTallies, Shadows};
use crate::slots::{Slot, SlotPlan, SupervisedInstance};
use crate::start::{StartCalls, StartError, StartedShadows, kernel_shadows, start_shadows};

/// A set of plugins of a running VM.
pub(super) struct Set {
    /// Its number among the sets that the VM has had.
    pub(super) id: u64,
    pub(super) engine: Arc<Engine>,
    pub(super) hosts: BTreeMap<Arc<str>, Arc<PluginHost>>,
    pub(super) handles: BTreeMap<Arc<str>, Intercepts>,
    /// The handle of the whole set.
    pub(super) intercepts: Intercepts,
}

/// A set whose plugins have started, and are not in charge yet.
pub(super) struct Prepared {
    pub(super) set: Set,
    /// Of each vCPU; `None` for a plugin that goes on from the set in charge.
    pub(super) slots: Vec<Vec<Option<Slot>>>,
    pub(super) shadows: StartedShadows,
    /// Of each vCPU.
    pub(super) kernel: Vec<Vec<KernelFollower>>,
    pub(super) starts: StartCalls,
}

/// What stays the same for all sets of a VM.
pub(super) struct Site {
    pub(super) vm: Arc<VmHost>,
    pub(super) vcpus: u32,
    pub(super) reports: Reports,
    pub(super) unhandled_log: UnhandledLog,
    pub(super) strays: Strays,
}

/// Who watches the accesses of a set.
pub(super) struct Watch<'a> {
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) judge: Option<&'a Arc<Judge>>,
    /// Former plugins, as shadows.
    pub(super) former: &'a [ShadowPlan],
    pub(super) generation: u64,
}

impl Set {
    /// A set of which no plugin has started.
    pub(super) fn new(
        site: &Site,
        engine: &Arc<Engine>,
        (id, intercepts): (u64, Intercepts),
        role: Role,
        kept: impl Fn(&str) -> Option<(Arc<PluginHost>, Intercepts)>,
    ) -> Self {
        let (mut hosts, mut handles) = (BTreeMap::new(), BTreeMap::new());
        for plugin in &engine.plugins {
            let name = &plugin.name;
            let (host, handle) = kept(name).unwrap_or_else(|| {
                (Arc::new(PluginHost::new(&site.vm, name, role)), intercepts.handle())
            });
            hosts.insert(name.clone(), host);
            handles.insert(name.clone(), handle);
        }
        Set { id, engine: engine.clone(), hosts, handles, intercepts }
    }

    fn surroundings(&self, site: &Site, plugin: &Arc<str>) -> Surroundings {
        let host = self.hosts.get(plugin).map(|host| host.clone() as Arc<dyn Host>);
        Surroundings {
            host: host.unwrap_or_else(|| site.vm.clone()),
            intercepts: self.handles.get(plugin).unwrap_or(&self.intercepts).clone(),
            vcpus: site.vcpus,
        }
    }

    /// Starts all plugins but those that go on, and the set's shadows.
    pub(super) fn start(
        self,
        site: &Site,
        fates: &BTreeMap<Arc<str>, Fate>,
    ) -> Result<Prepared, StartError> {
        let goes_on = |plan: &SlotPlan| fates.get(&plan.plugin.name) == Some(&Fate::Kept);
        let mut starts = StartCalls::default();
        let mut new_instance = |plan: &SlotPlan, scope| {
            let vm = self.surroundings(site, &plan.plugin.name);
            let (instance, calls) = during(|| SupervisedInstance::new(&plan.plugin, &vm, scope));
            starts.add(scope, calls);
            instance.map_err(|error| StartError::of(&plan.plugin, &error))
        };
        let plans = &self.engine.slots;
        let mut shared = Vec::new();
        for plan in plans {
            let is_shared = plan.scope == Scope::Vm && !goes_on(plan);
            let instance = is_shared.then(|| new_instance(plan, None)).transpose()?;
            shared.push(instance.map(|instance| Arc::new(Mutex::new(instance))));
        }
        let mut slots = Vec::new();
        for vcpu in (0..site.vcpus).map(VcpuId) {
            let mut own = Vec::new();
            for (plan, shared) in plans.iter().zip(&shared) {
                own.push(match (shared, goes_on(plan)) {
                    (_, true) => None,
                    (Some(shared), _) => Some(Slot::Shared(shared.clone())),
                    (None, _) => Some(Slot::Own(new_instance(plan, Some(vcpu))?)),
                });
            }
            slots.push(own);
        }
        let vm: Arc<dyn Host> = site.vm.clone();
        let mut shadows = start_shadows(&self.engine, &vm, site.vcpus, &starts);
        let (kernel, tallies) = kernel_shadows(&self.engine, site.vcpus);
        shadows.tallies.extend(tallies);
        Ok(Prepared { set: self, slots, shadows, kernel, starts })
    }

    /// What answers each vCPU once it has its slots, and what that counts.
    pub(super) fn dispatches(&self, site: &Site) -> (Vec<VcpuDispatch>, Metrics) {
        let counters = || Arc::new(Counters::new(self.engine.slots.len()));
        let counters: Vec<_> = (0..site.vcpus).map(|_| counters()).collect();
        let plugins = self.engine.routes.names.clone();
        let metrics = Metrics { vcpus: counters.clone(), plugins };
        let vcpus = (0..site.vcpus).map(VcpuId).zip(counters);
        (vcpus.map(|(vcpu, counters)| self.dispatch(site, vcpu, counters)).collect(), metrics)
    }

    fn dispatch(&self, site: &Site, vcpu: VcpuId, counters: Arc<Counters>) -> VcpuDispatch {
        let engine = &self.engine;
        let switches = engine.plugins.iter().any(|plugin| plugin.held.intercept);
        let host: Arc<dyn Host> = site.vm.clone();
        let chain = Chain {
            vcpu,
            routes: engine.routes.clone(),
            slots: Box::default(),
            switches: switches.then(|| self.intercepts.clone()),
            policy: engine.policy.clone(),
            unhandled_log: site.unhandled_log.clone(),
            observers: None,
            strays: Some(site.strays.clone()),
        };
        let vm = Surroundings {
            host: Arc::new(LoggingHost::new(host, ENGINE.into())),
            intercepts: self.intercepts.clone(),
            vcpus: site.vcpus,
        };
        VcpuDispatch { chain, counters, vm, reports: site.reports.clone() }
    }

    /// What orders the accesses that are watched.
    pub(super) fn order_lock(&self, watch: &Watch<'_>) -> OrderLock {
        let plans: Vec<ShadowPlan> =
            self.engine.shadows.iter().chain(watch.former).cloned().collect();
        OrderLock::new(&self.engine.slots, &plans, watch.recorder)
    }

    /// The observers of a vCPU, if it has any.
    pub(super) fn observers(
        &self,
        site: &Site,
        watch: &Watch<'_>,
        order_lock: &OrderLock,
        Followers { shadows, kernel }: Followers,
    ) -> Option<Box<Observers>> {
        let is_followed = !shadows.0.is_empty() || !kernel.is_empty();
        if watch.recorder.is_none() && watch.judge.is_none() && !is_followed {
            return None;
        }
        Some(Box::new(Observers {
            recorder: watch.recorder.cloned(),
            order_lock: order_lock.clone(),
            shadows: Some(shadows).filter(|shadows| !shadows.0.is_empty()),
            kernel,
            host: site.vm.clone(),
            names: self.engine.routes.names.clone(),
            asked: Vec::new(),
            generation: watch.generation,
            judge: watch.judge.cloned(),
        }))
    }
}

/// What follows the accesses of a vCPU.
#[derive(Default)]
pub(super) struct Followers {
    pub(super) shadows: Shadows,
    pub(super) kernel: KernelShadows,
}

impl Followers {
    /// Takes those of a vCPU.
    pub(super) fn take(observers: &mut Option<Box<Observers>>) -> Self {
        let Some(observers) = observers else { return Followers::default() };
        Followers {
            shadows: observers.shadows.take().unwrap_or_default(),
            kernel: std::mem::take(&mut observers.kernel),
        }
    }
}

/// How a set and its shadows do.
#[derive(Clone)]
pub struct Sources {
    /// The set.
    pub engine: Arc<Engine>,
    /// What it counts.
    pub metrics: Metrics,
    /// How its shadows do.
    pub shadows: ShadowTallies,
}
