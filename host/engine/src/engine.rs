//! A profile's plugins, loaded: what must exit, what CPUID must say, and the
//! live instances that answer.

use std::sync::Arc;

use wasmsr_interface::{
    CpuidChange, Directions, ExitList, ExitsCause, Host, MsrRange, NoGuest, VcpuId,
};

use crate::claims::{self, Answers};
use crate::cpuid::{self};
use crate::dispatch::VcpuDispatch;
use crate::error::{LoadError, RestoreError, SaveError, StartError};
use crate::intercepts::Intercepts;
use crate::metrics::Metrics;
use crate::msr::{Claim, Policy};
use crate::plugin::{CodeCache, Compiler, Manifest, Plugin, Scope};
use crate::profile::{KernelVersion, PluginConfig, Profile, Sha256};
use crate::record::Recorder;
use crate::report::Reports;
use crate::shadow::{ShadowPlan, ShadowTallies};
use crate::slot::SlotPlan;
use crate::start;
use crate::state::{InstanceState, SavedState};

/// All plugins of a profile, compiled and checked against each other. Holds
/// nothing of any boot: [`start`](Engine::start) makes that.
pub struct Engine {
    pub(crate) policy: Arc<Policy>,
    pub(crate) plugins: Vec<Arc<Plugin>>,
    yielded: Vec<YieldedPlugin>,
    pub(crate) slots: Vec<SlotPlan>,
    claims: Vec<Claim>,
    pub(crate) answers: Arc<Answers>,
    exits: ExitList,
    cpuid: Vec<CpuidChange>,
    pub(crate) shadows: Vec<ShadowPlan>,
    pub(crate) profile: Profile,
    pub(crate) host_kernel: Option<KernelVersion>,
}

/// What loading depends on beside the profile.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The host's kernel: it decides which plugins yield their MSRs
    /// (`kernel-from`). `None`: no plugin does.
    pub host_kernel: Option<KernelVersion>,
    /// Keeps what was compiled, for later starts. `None`: every start
    /// compiles.
    pub cache: Option<CodeCache>,
}

/// A loaded plugin, for people.
#[derive(Debug, Clone, Copy)]
pub struct PluginInfo<'a> {
    /// Its manifest.
    pub manifest: &'a Manifest,
    /// What the profile says of it.
    pub config: &'a PluginConfig,
    /// Size of its file in bytes.
    pub size: u64,
    /// SHA-256 of its file.
    pub sha256: Sha256,
    /// Whether its code came from the cache.
    pub from_cache: bool,
}

/// A plugin whose MSRs are the kernel's on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YieldedPlugin {
    /// Its name.
    pub name: Arc<str>,
    /// The profile's `kernel-from`.
    pub from: KernelVersion,
    /// The host's kernel.
    pub host: KernelVersion,
}

/// Who answers one range of the MSR map, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions.
    pub directions: Directions,
    /// The plugin.
    pub plugin: Arc<str>,
    /// Whose state it is.
    pub scope: Scope,
    /// Whether it only answers what an earlier plugin passes on.
    pub fallback: bool,
}

/// The live plugins of one boot.
pub struct Started {
    /// What answers each vCPU, in order; each goes to its vCPU's thread.
    pub vcpus: Vec<VcpuDispatch>,
    /// What they count.
    pub metrics: Metrics,
    /// What they tell after the run.
    pub reports: Reports,
    /// How their shadows do.
    pub shadows: ShadowTallies,
}

impl Engine {
    /// Loads every plugin of `profile`: reads, checks, compiles, and holds
    /// them against each other.
    ///
    /// # Errors
    /// [`LoadError`], naming the plugin, the MSR and the remedy.
    pub fn load(profile: &Profile, options: &LoadOptions) -> Result<Self, LoadError> {
        let compiler = Compiler::new(options.cache.as_ref()).map_err(LoadError::Engine)?;
        let mut plugins: Vec<Arc<Plugin>> = Vec::new();
        let mut yielded = Vec::new();
        let mut shadows = Vec::new();
        for (config, loaded) in profile.plugins.iter().zip(compiler.load_all(&profile.plugins)) {
            let plugin =
                loaded.map_err(|source| LoadError::Module { path: config.path.clone(), source })?;
            if let Some(of) = &config.shadow_of {
                shadows.push((plugin, of.as_str()));
                continue;
            }
            if let Some(twin) = plugins.iter().find(|other| other.name == plugin.name) {
                return Err(LoadError::SameName {
                    name: plugin.name,
                    first: twin.path.clone(),
                    second: plugin.path,
                });
            }
            match (config.kernel_from, options.host_kernel) {
                (Some(from), Some(host)) if host >= from => {
                    yielded.push(YieldedPlugin { name: plugin.name, from, host });
                }
                _ => plugins.push(Arc::new(plugin)),
            }
        }
        if plugins.len() > usize::from(u16::MAX / 2) {
            return Err(LoadError::TooMany);
        }
        claims::refuse_double_claims(&plugins)?;
        let shadows = shadow_plans(shadows, &plugins, &yielded)?;
        let leaves = plugins
            .iter()
            .flat_map(|plugin| plugin.manifest.cpuid.iter().map(|leaf| (&plugin.name, leaf)));
        let cpuid = cpuid::merge(leaves)?;
        let (slots, claims, answers) = claims::assign_slots(&plugins);
        Ok(Engine {
            policy: Arc::new(profile.policy.clone()),
            exits: intercepts(&plugins).exits(),
            plugins,
            yielded,
            slots,
            claims,
            answers: Arc::new(answers),
            cpuid,
            shadows,
            profile: profile.clone(),
            host_kernel: options.host_kernel,
        })
    }

    /// What must exit when a boot starts: the VMM makes its MSR filter from
    /// it. A plugin may change it later ([`Host::set_exits`]).
    pub fn exits(&self) -> &ExitList {
        &self.exits
    }

    /// What the guest's CPUID must say, beside what the hypervisor supports.
    pub fn cpuid(&self) -> &[CpuidChange] {
        &self.cpuid
    }

    /// The plugins, in the order of the profile.
    pub fn plugins(&self) -> impl Iterator<Item = PluginInfo<'_>> {
        self.plugins.iter().map(|plugin| info(plugin))
    }

    /// The plugins that leave their MSRs to this host's kernel.
    pub fn yielded(&self) -> &[YieldedPlugin] {
        &self.yielded
    }

    /// The MSR map, sorted by index.
    pub fn map(&self) -> Vec<MapEntry> {
        let mut entries: Vec<MapEntry> = self
            .claims
            .iter()
            .filter_map(|claim| {
                let slot = self.slots.get(usize::from(claim.slot.0))?;
                Some(MapEntry {
                    range: claim.range,
                    directions: claim.directions,
                    plugin: slot.plugin.name.clone(),
                    scope: slot.scope,
                    fallback: slot.plugin.config.fallback,
                })
            })
            .collect();
        // Stable: a fallback stays behind the plugin that it backs.
        entries.sort_by_key(|entry| entry.range.first());
        entries
    }

    /// The plugins that run beside others, in the order of the profile.
    pub fn shadows(&self) -> impl Iterator<Item = PluginInfo<'_>> {
        self.shadows.iter().map(|plan| info(&plan.plugin))
    }

    /// Brings every plugin to life for a VM of `vcpus` vCPUs. A shadow that does
    /// not start is left out: the log says why, and its counts have a failure.
    ///
    /// # Errors
    /// [`StartError`] for the first plugin, but for shadows, that refuses its
    /// configuration, traps in `init`, or does not fit its limits.
    pub fn start(&self, host: &Arc<dyn Host>, vcpus: u32) -> Result<Started, StartError> {
        start::with_observers(self, host, vcpus, None)
    }

    /// As [`start`](Engine::start), with everything recorded but
    /// [`VcpuDispatch::reset`]: a replay does not know of resets.
    ///
    /// # Errors
    /// As [`start`](Engine::start).
    pub fn start_recorded(
        &self,
        host: &Arc<dyn Host>,
        vcpus: u32,
        recorder: &Recorder,
    ) -> Result<Started, StartError> {
        start::with_observers(self, host, vcpus, Some(recorder))
    }

    /// Brings every plugin to life for a VM of `vcpus` vCPUs with no guest in
    /// it, to learn whether it takes its configuration.
    ///
    /// # Errors
    /// As [`start`](Engine::start), and for shadows too.
    pub fn dry_run(&self, vcpus: u32) -> Result<(), StartError> {
        let host: Arc<dyn Host> = Arc::new(NoGuest::default());
        start::dry_run(self, &host, vcpus)
    }

    /// Saves the plugins of a VM. Its vCPUs must be out of the guest, with no
    /// access pending: KVM keeps the answer to one nowhere that can be saved.
    ///
    /// # Errors
    /// [`SaveError`] if a plugin does not save its state.
    pub fn save(&self, vcpus: &mut [VcpuDispatch]) -> Result<SavedState, SaveError> {
        let mut saved = SavedState::default();
        for (position, vcpu) in vcpus.iter_mut().enumerate() {
            let served = vcpu.vcpu;
            for slot in &mut vcpu.slots {
                let state = slot.with(|instance| {
                    // The VM's own instances are saved with the first vCPU.
                    if instance.scope().is_none() && position > 0 {
                        return Ok(None);
                    }
                    instance.save(served).map_err(|error| SaveError {
                        name: instance.name().clone(),
                        why: error.to_string(),
                    })
                });
                saved.instances.extend(state?);
            }
        }
        if let Some(vcpu) = vcpus.first() {
            // Those of all others are their manifests'.
            let asks = |name: &str| {
                let mut plugins = self.plugins.iter();
                plugins.any(|p| *p.name == *name && p.held.intercept)
            };
            saved.intercepts = vcpu.vm.intercepts.save();
            saved.intercepts.retain(|switched| asks(&switched.plugin));
        }
        Ok(saved)
    }

    /// Starts the plugins as [`start`](Engine::start) does and gives each what
    /// it saved. A plugin that saved nothing starts afresh, and so do shadows.
    /// What follows cannot be recorded.
    ///
    /// # Errors
    /// [`RestoreError`] if a state belongs to no plugin or vCPU here, or a
    /// plugin refuses it.
    pub fn restore(
        &self,
        host: &Arc<dyn Host>,
        vcpus: u32,
        saved: &SavedState,
    ) -> Result<Started, RestoreError> {
        let mut started = self.start(host, vcpus)?;
        if let Some(vcpu) = started.vcpus.first() {
            let manifest = |name: &str| {
                let mut plugins = self.plugins.iter();
                plugins.find(|plugin| *plugin.name == *name).map(|plugin| &plugin.manifest)
            };
            let restored = vcpu.vm.intercepts.restore(&saved.intercepts, manifest);
            restored.map_err(|name| RestoreError::NotClaimed { name })?;
            if vcpu.switches.is_some() {
                let exits = vcpu.vm.intercepts.exits();
                host.set_exits(&exits, &ExitsCause::Restore)
                    .map_err(|error| RestoreError::Exits(error.to_string()))?;
            }
        }
        for state in &saved.instances {
            restore_one(&mut started.vcpus, state)?;
        }
        Ok(started)
    }
}

fn restore_one(vcpus: &mut [VcpuDispatch], state: &InstanceState) -> Result<(), RestoreError> {
    let name = &state.plugin;
    let count = vcpus.len();
    let vcpu = usize::try_from(state.vcpu.unwrap_or(0)).unwrap_or(usize::MAX);
    let Some(vcpu) = vcpus.get_mut(vcpu) else {
        return Err(RestoreError::NoVcpu { name: name.clone(), vcpu, count });
    };
    let scope = state.vcpu.map(VcpuId);
    let served = vcpu.vcpu;
    for slot in &mut vcpu.slots {
        let restored = slot.with(|instance| {
            let is_its = **instance.name() == **name && instance.scope() == scope;
            is_its.then(|| instance.restore(state, served))
        });
        match restored {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => {
                return Err(RestoreError::Refused {
                    name: name.clone(),
                    version: state.version.clone(),
                    why: error.to_string(),
                });
            }
        }
    }
    Err(RestoreError::NoPlugin { name: name.clone() })
}

fn info(plugin: &Plugin) -> PluginInfo<'_> {
    PluginInfo {
        manifest: &plugin.manifest,
        config: &plugin.config,
        size: plugin.size,
        sha256: plugin.sha256,
        from_cache: plugin.from_cache,
    }
}

pub(crate) fn intercepts(plugins: &[Arc<Plugin>]) -> Intercepts {
    Intercepts::new(plugins.iter().map(|plugin| (&plugin.name, &plugin.manifest)))
}

/// Finds for each shadow the plugin beside which it runs.
fn shadow_plans(
    shadows: Vec<(Plugin, &str)>,
    plugins: &[Arc<Plugin>],
    yielded: &[YieldedPlugin],
) -> Result<Vec<ShadowPlan>, LoadError> {
    let mut plans = Vec::new();
    for (mut shadow, of) in shadows {
        if yielded.iter().any(|plugin| *plugin.name == *of) {
            tracing::info!("{}: nothing to compare, `{of}` yields", shadow.path.display());
            continue;
        }
        let Some(leader) = plugins.iter().find(|plugin| *plugin.name == *of) else {
            let names = plugins.iter().map(|plugin| format!("`{}`", plugin.name));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(LoadError::NoLeader { shadow: shadow.path, of: of.to_owned(), names });
        };
        let about = &shadow.manifest.plugin;
        // It may have the name of the plugin in charge.
        shadow.name = format!("{} {} (shadow of {of})", about.name, about.version).into();
        let plugin = Arc::new(shadow);
        let (slots, _, answers) = claims::assign_slots(std::slice::from_ref(&plugin));
        let of = leader.name.clone();
        plans.push(ShadowPlan { plugin, of, slots, answers: Arc::new(answers) });
    }
    Ok(plans)
}
