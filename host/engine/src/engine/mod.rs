//! A profile's plugins, loaded and checked against each other: what must exit, what
//! CPUID must say, and which plugin answers what.

mod claims;
mod cpuid;
mod digest;
mod error;
mod info;
mod listed;

use std::sync::Arc;

pub use error::LoadError;
pub use info::{MapEntry, PluginInfo, YieldedPlugin};
pub use listed::ListedPlace;
use wasmsr_interface::{CpuidChange, ExitList, KernelVersion, MsrRange};

use crate::intercepts::Intercepts;
use crate::msr::{Claim, Policy};
use crate::plugin::{CodeCache, Compiler, Plugin};
use crate::profile::Profile;
use crate::shadow::ShadowPlan;
use crate::slots::{Routes, SlotPlan, assign_slots};

/// All plugins of a profile, compiled and checked against each other. Holds
/// nothing of any boot: [`start`](Engine::start) makes that.
pub struct Engine {
    pub(crate) policy: Arc<Policy>,
    pub(crate) plugins: Vec<Arc<Plugin>>,
    yielded: Vec<YieldedPlugin>,
    pub(crate) slots: Vec<SlotPlan>,
    claims: Vec<Claim>,
    pub(crate) routes: Arc<Routes>,
    exits: ExitList,
    cpuid: Vec<CpuidChange>,
    pub(crate) shadows: Vec<ShadowPlan>,
    /// The plugins beside which KVM is asked.
    pub(crate) kernel_shadows: Vec<Arc<str>>,
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

impl Engine {
    /// Loads every plugin of `profile`: reads, checks, compiles, and holds
    /// them against each other.
    ///
    /// # Errors
    /// [`LoadError`], naming the plugin, the MSR and the remedy.
    pub fn load(profile: &Profile, options: &LoadOptions) -> Result<Self, LoadError> {
        let (engine, errors) = Self::load_all(profile, options)?;
        errors.into_iter().next().map_or(Ok(engine), Err)
    }

    /// As [`load`](Self::load), with everything that is wrong: the engine is for further
    /// checks, and has only the plugins that can be loaded.
    ///
    /// # Errors
    /// [`LoadError`] if no plugin at all can be loaded here.
    pub fn load_all(
        profile: &Profile,
        options: &LoadOptions,
    ) -> Result<(Self, Vec<LoadError>), LoadError> {
        let compiler = Compiler::new(options.cache.as_ref()).map_err(LoadError::Engine)?;
        let mut errors = Vec::new();
        let mut plugins: Vec<Arc<Plugin>> = Vec::new();
        let mut yielded = Vec::new();
        let mut policy = profile.policy.clone();
        let mut shadows = Vec::new();
        let loaded = compiler.load_all(&profile.plugins);
        for (number, (config, loaded)) in profile.plugins.iter().zip(loaded).enumerate() {
            let plugin = match loaded {
                Ok(plugin) => plugin,
                Err(sources) => {
                    let module = |source| LoadError::Module {
                        path: config.file().to_owned(),
                        source: listed::with_place(source, profile, number),
                    };
                    errors.extend(sources.into_iter().map(module));
                    continue;
                }
            };
            if let Some(of) = &config.shadow_of {
                shadows.push((plugin, of.as_str()));
                continue;
            }
            if let Some(twin) = plugins.iter().find(|other| other.name == plugin.name) {
                errors.push(LoadError::SameName {
                    name: plugin.name.clone(),
                    first: twin.path.clone(),
                    second: plugin.path.clone(),
                });
                continue;
            }
            match (config.kernel_from, options.host_kernel) {
                (Some(from), Some(host)) if host >= from => {
                    for claim in &plugin.manifest.msr {
                        policy.allow_also(claim.range, claim.access);
                    }
                    yielded.push(YieldedPlugin { name: plugin.name.clone(), from, host });
                }
                _ => plugins.push(Arc::new(plugin)),
            }
        }
        if plugins.len() > usize::from(u16::MAX / 2) {
            return Err(LoadError::TooMany);
        }
        errors.extend(claims::double_claims(&plugins, profile));
        // What is missing may be among the plugins that cannot be loaded.
        let is_whole = !errors.iter().any(|error| matches!(error, LoadError::Module { .. }));
        let (shadows, astray) = shadow_plans(shadows, &plugins, &yielded);
        let (kernel_shadows, without) = kernel_shadows(profile, &plugins, &yielded);
        errors.extend(astray.into_iter().chain(without).filter(|_| is_whole));
        let cpuid = cpuid::changes(&plugins, profile).unwrap_or_else(|conflict| {
            errors.push(conflict.into());
            Vec::new()
        });
        let (slots, claims, routes) = assign_slots(&plugins);
        let engine = Engine {
            exits: intercepts(&plugins, &policy).exits(),
            policy: Arc::new(policy),
            plugins,
            yielded,
            slots,
            claims,
            routes: Arc::new(routes),
            cpuid,
            shadows,
            kernel_shadows,
            profile: profile.clone(),
            host_kernel: options.host_kernel,
        };
        Ok((engine, errors))
    }

    /// What must exit when a boot starts: the VMM makes its MSR filter from
    /// it. A plugin may change it later ([`Host::set_exits`](wasmsr_interface::Host::set_exits)).
    pub fn exits(&self) -> &ExitList {
        &self.exits
    }

    /// What the guest's CPUID must say, beside what the hypervisor supports: as the
    /// plugins' manifests and the profile ask.
    pub fn cpuid(&self) -> &[CpuidChange] {
        &self.cpuid
    }

    /// The plugins, in the order of the profile.
    pub fn plugins(&self) -> impl Iterator<Item = PluginInfo<'_>> {
        self.plugins.iter().map(|plugin| PluginInfo::of(plugin))
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
        self.shadows.iter().map(|plan| PluginInfo::of(&plan.plugin))
    }

    /// The plugins beside which KVM's own answer is asked, in the order of the profile.
    pub fn kernel_shadows(&self) -> impl Iterator<Item = &str> {
        self.kernel_shadows.iter().map(|of| &**of)
    }

    /// Where the profile lists the claim of a plugin that meets `range`; `None` if the
    /// plugin's manifest has the claim.
    pub fn listed(&self, plugin: &str, range: MsrRange) -> Option<ListedPlace> {
        let plugin = self.plugins.iter().find(|loaded| *loaded.name == *plugin)?;
        listed::place_of(&self.profile, plugin, range)
    }
}

/// What exits at the start of a boot with these plugins.
pub(crate) fn intercepts(plugins: &[Arc<Plugin>], policy: &Policy) -> Intercepts {
    let plugins = plugins.iter().map(|plugin| (&plugin.name, &plugin.manifest));
    Intercepts::new(plugins, policy.unclaimed())
}

/// The plugins that have a kernel shadow; an error for each shadow without a plugin.
fn kernel_shadows(
    profile: &Profile,
    plugins: &[Arc<Plugin>],
    yielded: &[YieldedPlugin],
) -> (Vec<Arc<str>>, Vec<LoadError>) {
    let (mut shadowed, mut errors) = (Vec::new(), Vec::new());
    for of in &profile.kernel_shadows {
        if yielded.iter().any(|plugin| *plugin.name == **of) {
            tracing::info!("no kernel shadow: `{of}` yields, so KVM itself answers");
        } else if let Some(leader) = plugins.iter().find(|plugin| *plugin.name == **of) {
            shadowed.push(leader.name.clone());
        } else {
            errors.push(LoadError::NoKernelLeader { of: of.clone(), names: names_of(plugins) });
        }
    }
    (shadowed, errors)
}

fn names_of(plugins: &[Arc<Plugin>]) -> String {
    let names = plugins.iter().map(|plugin| format!("`{}`", plugin.name));
    names.collect::<Vec<_>>().join(", ")
}

/// Finds for each shadow the plugin beside which it runs; an error for each without one.
fn shadow_plans(
    shadows: Vec<(Plugin, &str)>,
    plugins: &[Arc<Plugin>],
    yielded: &[YieldedPlugin],
) -> (Vec<ShadowPlan>, Vec<LoadError>) {
    let (mut plans, mut errors) = (Vec::new(), Vec::new());
    for (shadow, of) in shadows {
        if yielded.iter().any(|plugin| *plugin.name == *of) {
            tracing::info!("{}: nothing to compare, `{of}` yields", shadow.path.display());
            continue;
        }
        let Some(leader) = plugins.iter().find(|plugin| *plugin.name == *of) else {
            let names = names_of(plugins);
            errors.push(LoadError::NoLeader {
                shadow: shadow.path.clone(),
                of: of.to_owned(),
                names,
            });
            continue;
        };
        let about = &shadow.manifest.plugin;
        // It may have the name of the plugin in charge.
        let name = format!("{} {} (shadow of {of})", about.name, about.version);
        let plugin = Arc::new(shadow.named(name.into()));
        let (slots, _, routes) = assign_slots(std::slice::from_ref(&plugin));
        let of = leader.name.clone();
        plans.push(ShadowPlan { plugin, of, slots, routes: Arc::new(routes) });
    }
    (plans, errors)
}
