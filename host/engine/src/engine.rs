//! A profile's plugins, loaded: what must exit, what CPUID must say, and the
//! live instances that answer.

use std::sync::{Arc, Mutex};

use crate::claims::{self, Answers};
use crate::cpuid::{self, CpuidChange};
use crate::error::{LoadError, RestoreError, SaveError, StartError};
use crate::host::{Host, NoGuest};
use crate::intercepts::Intercepts;
use crate::metrics::{Counters, Metrics};
use crate::msr::{Claim, Directions, ExitList, MsrRange, Policy, VcpuId};
use crate::plugin::{CodeCache, Compiler, Manifest, Plugin, Scope, Surroundings};
use crate::profile::{KernelVersion, PluginConfig, Profile, Sha256};
use crate::report::Reports;
use crate::seat::{Seat, SeatPlan, Sitter};
use crate::state::{InstanceState, SavedState};
use crate::unanswered::Unanswered;
use crate::vcpu::VcpuMsrs;

/// All plugins of a profile, compiled and checked against each other. Holds
/// nothing of any boot: [`start`](Engine::start) makes that.
pub struct Engine {
    policy: Arc<Policy>,
    plugins: Vec<Arc<Plugin>>,
    yielded: Vec<YieldedPlugin>,
    seats: Vec<SeatPlan>,
    claims: Vec<Claim>,
    answers: Arc<Answers>,
    exits: ExitList,
    cpuid: Vec<CpuidChange>,
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
    pub vcpus: Vec<VcpuMsrs>,
    /// What they count.
    pub metrics: Metrics,
    /// What they tell after the run.
    pub reports: Reports,
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
        for (config, loaded) in profile.plugins.iter().zip(compiler.load_all(&profile.plugins)) {
            let plugin =
                loaded.map_err(|source| LoadError::Module { path: config.path.clone(), source })?;
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
        let leaves = plugins
            .iter()
            .flat_map(|plugin| plugin.manifest.cpuid.iter().map(|leaf| (&plugin.name, leaf)));
        let cpuid = cpuid::merge(leaves)?;
        let (seats, claims, answers) = claims::assign_seats(&plugins);
        Ok(Engine {
            policy: Arc::new(profile.policy.clone()),
            exits: intercepts(&plugins).exits(),
            plugins,
            yielded,
            seats,
            claims,
            answers: Arc::new(answers),
            cpuid,
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
        self.plugins.iter().map(|plugin| PluginInfo {
            manifest: &plugin.manifest,
            config: &plugin.config,
            size: plugin.size,
            sha256: plugin.sha256,
            from_cache: plugin.from_cache,
        })
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
                let seat = self.seats.get(usize::from(claim.seat.0))?;
                Some(MapEntry {
                    range: claim.range,
                    directions: claim.directions,
                    plugin: seat.plugin.name.clone(),
                    scope: seat.scope,
                    fallback: seat.plugin.config.fallback,
                })
            })
            .collect();
        // Stable: a fallback stays behind the plugin that it backs.
        entries.sort_by_key(|entry| entry.range.first());
        entries
    }

    /// Brings every plugin to life for a VM of `vcpus` vCPUs.
    ///
    /// # Errors
    /// [`StartError`] for the first plugin that refuses its configuration,
    /// traps in `init`, or does not fit its limits.
    pub fn start(&self, host: &Arc<dyn Host>, vcpus: u32) -> Result<Started, StartError> {
        let intercepts = intercepts(&self.plugins);
        let vm = Surroundings { host: host.clone(), intercepts, vcpus };
        let sitter = |plan: &SeatPlan, scope| {
            Sitter::new(&plan.plugin, &vm, scope)
                .map_err(|error| StartError::of(&plan.plugin, &error))
        };
        let mut shared = Vec::new();
        for plan in &self.seats {
            shared.push(match plan.scope {
                Scope::Vm => Some(Arc::new(Mutex::new(sitter(plan, None)?))),
                Scope::Vcpu => None,
            });
        }
        let switches =
            self.plugins.iter().any(|plugin| plugin.held.intercept).then(|| vm.intercepts.clone());
        let unanswered = Unanswered::new();
        let metrics = Metrics { vcpus: Vec::new(), plugins: self.answers.names.clone() };
        let mut started = Started { vcpus: Vec::new(), metrics, reports: Reports::default() };
        for vcpu in (0..vcpus).map(VcpuId) {
            let mut seats = Vec::new();
            for (plan, shared) in self.seats.iter().zip(&shared) {
                seats.push(match shared {
                    Some(shared) => Seat::Shared(shared.clone()),
                    None => Seat::Own(sitter(plan, Some(vcpu))?),
                });
            }
            let counters = Arc::new(Counters::new());
            started.metrics.vcpus.push(counters.clone());
            started.vcpus.push(VcpuMsrs {
                vcpu,
                answers: self.answers.clone(),
                seats: seats.into(),
                policy: self.policy.clone(),
                counters,
                unanswered: unanswered.clone(),
                vm: vm.clone(),
                switches: switches.clone(),
                reports: started.reports.clone(),
            });
        }
        Ok(started)
    }

    /// Brings every plugin to life for a VM of `vcpus` vCPUs with no guest in
    /// it, to learn whether it takes its configuration.
    ///
    /// # Errors
    /// As [`start`](Engine::start).
    pub fn rehearse(&self, vcpus: u32) -> Result<(), StartError> {
        let host: Arc<dyn Host> = Arc::new(NoGuest::default());
        self.start(&host, vcpus).map(drop)
    }

    /// Saves the plugins of a VM. Its vCPUs must be out of the guest, with no
    /// access pending: KVM keeps the answer to one nowhere that can be saved.
    ///
    /// # Errors
    /// [`SaveError`] if a plugin does not save its state.
    pub fn save(&self, vcpus: &mut [VcpuMsrs]) -> Result<SavedState, SaveError> {
        let mut saved = SavedState::default();
        for (position, vcpu) in vcpus.iter_mut().enumerate() {
            for seat in &mut vcpu.seats {
                let state = seat.with(|sitter| {
                    // The VM's own instances are saved with the first vCPU.
                    if sitter.scope().is_none() && position > 0 {
                        return Ok(None);
                    }
                    sitter.save().map_err(|error| SaveError {
                        name: sitter.name().clone(),
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
    /// it saved. A plugin that saved nothing starts afresh.
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
                host.set_exits(&exits).map_err(|error| RestoreError::Exits(error.to_string()))?;
            }
        }
        for state in &saved.instances {
            restore_one(&mut started.vcpus, state)?;
        }
        Ok(started)
    }
}

fn restore_one(vcpus: &mut [VcpuMsrs], state: &InstanceState) -> Result<(), RestoreError> {
    let name = &state.plugin;
    let count = vcpus.len();
    let vcpu = usize::try_from(state.vcpu.unwrap_or(0)).unwrap_or(usize::MAX);
    let Some(vcpu) = vcpus.get_mut(vcpu) else {
        return Err(RestoreError::NoVcpu { name: name.clone(), vcpu, count });
    };
    let scope = state.vcpu.map(VcpuId);
    for seat in &mut vcpu.seats {
        let restored = seat.with(|sitter| {
            (**sitter.name() == **name && sitter.scope() == scope).then(|| sitter.restore(state))
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

fn intercepts(plugins: &[Arc<Plugin>]) -> Intercepts {
    Intercepts::new(plugins.iter().map(|plugin| (&plugin.name, &plugin.manifest)))
}
