//! A set of plugins of a running VM, and how one is made ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmsr_interface::Host;

use super::fate::{Fate, Fates};
use super::host::{PluginHost, Role, VmHost};
use crate::dispatch::{Reports, Strays, UnhandledLog, VcpuDispatch};
use crate::engine::Engine;
use crate::intercepts::Intercepts;
use crate::metrics::Metrics;
use crate::plugin::Surroundings;
use crate::record::{ENGINE, LoggingHost};
use crate::shadow::ShadowTallies;
use crate::slots::SlotPlan;
use crate::start::{
    Common, Followers, StartCalls, StartError, Started, Watch, Watchers, dispatches, start_shadows,
    start_slots,
};

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
    /// Its slots but those that go on from the set in charge.
    pub(super) plans: Vec<SlotPlan>,
    /// With these slots alone.
    pub(super) started: Started,
    /// Of each vCPU.
    pub(super) followers: Vec<Followers>,
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
    pub(super) fn start(self, site: &Site, fates: &Fates) -> Result<Prepared, StartError> {
        let is_new = |plan: &&SlotPlan| fates.get(&plan.plugin.name) != Some(&Fate::Kept);
        let plans: Vec<SlotPlan> = self.engine.slots.iter().filter(is_new).cloned().collect();
        let surroundings = |name: &Arc<str>| self.surroundings(site, name);
        let (mut started, starts) =
            start_slots(&self.engine, &plans, self.common(site), &surroundings)?;
        let vm: Arc<dyn Host> = site.vm.clone();
        let shadows = start_shadows(&self.engine, &vm, site.vcpus, &starts);
        shadows.warn_of_absent();
        started.shadows = shadows.tallies;
        Ok(Prepared { set: self, plans, started, followers: shadows.vcpus, starts })
    }

    /// What answers each vCPU once it has its slots, and what that counts.
    pub(super) fn dispatches(&self, site: &Site) -> (Vec<VcpuDispatch>, Metrics) {
        dispatches(&self.engine, &self.common(site))
    }

    /// Another set takes charge: plugins that do not go on there change nothing any more.
    pub(super) fn step_down(&self, fates: &Fates) {
        for (name, host) in &self.hosts {
            if fates.get(name) != Some(&Fate::Kept) {
                host.set_role(Role::Shadow);
            }
        }
    }

    fn common(&self, site: &Site) -> Common {
        let vm: Arc<dyn Host> = site.vm.clone();
        Common {
            vm: Surroundings {
                host: Arc::new(LoggingHost::new(vm, ENGINE.into())),
                intercepts: self.intercepts.clone(),
                vcpus: site.vcpus,
            },
            reports: site.reports.clone(),
            unhandled_log: site.unhandled_log.clone(),
            strays: Some(site.strays.clone()),
        }
    }

    /// What observes the accesses of the vCPUs of this set.
    pub(super) fn watch(&self, site: &Site, generation: u64, watchers: &Watchers<'_>) -> Watch {
        Watch::new(&self.engine, site.vm.clone(), generation, watchers)
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
