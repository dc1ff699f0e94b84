//! A profile with everything that follows from it. `check` shows one, `run`
//! boots one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use wasmsr_engine::plugin::CodeCache;
use wasmsr_engine::{Engine, LoadOptions, Profile};
use wasmsr_interface::KernelVersion;
use wasmsr_kvm::filter::{KvmFilter, PackError};
use wasmsr_vmm::{Boot, VmConfig};

use crate::args;
use crate::exit::Failure;
use crate::profile::{Parts, VmProfile};

/// One set of profile, plugins and filter that belong together.
pub(crate) struct Loaded {
    pub(crate) profile: VmProfile,
    pub(crate) engine: Arc<Engine>,
    pub(crate) filter: KvmFilter,
}

impl Loaded {
    /// Loads the plugins of a profile, and checks them against each other, the
    /// ABI and KVM's limits. A boot can find further mistakes.
    pub(crate) fn of(profile: VmProfile, options: &LoadOptions) -> anyhow::Result<Self> {
        let path = profile.engine.path.clone();
        let in_profile = || format!("profile {}", path.display());
        let engine = Engine::load(&profile.engine, options).with_context(in_profile)?;
        let filter = KvmFilter::pack(engine.exits())
            .map_err(|error| unfiltered(&engine, error))
            .with_context(in_profile)?;
        Ok(Loaded { profile, engine: Arc::new(engine), filter })
    }

    /// Checks without a guest what a boot would check.
    pub(crate) fn checked(self) -> anyhow::Result<Self> {
        let in_profile = || format!("profile {}", self.profile.engine.path.display());
        let VmProfile { boot, vm, .. } = &self.profile;
        self.engine.dry_run(vm.vcpus).with_context(in_profile)?;
        wasmsr_vmm::check_boot(boot, vm.memory, vm.vcpus).with_context(in_profile)?;
        Ok(self)
    }
}

/// A profile with everything that can be found without a guest and without KVM.
pub(crate) struct Checked {
    pub(crate) vm: VmConfig,
    /// `None`: the profile is for a VMM that embeds the engine.
    pub(crate) boot: Option<Boot>,
    pub(crate) profile: Profile,
    pub(crate) engine: Engine,
    pub(crate) filter: KvmFilter,
}

impl Checked {
    /// Reads and checks the profile in `path`, with all mistakes that do not follow from
    /// each other.
    pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Self, Vec<anyhow::Error>> {
        let in_profile = || format!("profile {}", path.display());
        let Parts { vm, boot, engine: profile, mistakes } = Parts::read(path);
        let mut wrong: Vec<anyhow::Error> = mistakes.into_iter().map(Into::into).collect();
        let is_whole = wrong.is_empty();
        let Some(profile) = profile else { return Err(wrong) };
        let (engine, errors) = match Engine::load_all(&profile, options) {
            Ok(loaded) => loaded,
            Err(error) => {
                wrong.push(anyhow::Error::new(error).context(in_profile()));
                return Err(wrong);
            }
        };
        let mut add = |error: anyhow::Error| wrong.push(error.context(in_profile()));
        errors.into_iter().for_each(|error| add(error.into()));
        let filter = KvmFilter::pack_all(engine.exits());
        let filter = filter
            .map_err(|errors| errors.into_iter().for_each(|error| add(unfiltered(&engine, error))));
        let vcpus = vm.as_ref().map_or(1, |vm| vm.vcpus);
        engine.dry_run_all(vcpus).into_iter().for_each(|error| add(error.into()));
        // A guest's files fit into a memory whose size is known.
        if let (Some(boot), Some(vm)) = (&boot, &vm)
            && let Err(error) = wasmsr_vmm::check_boot(boot, vm.memory, vm.vcpus)
        {
            add(error.into());
        }
        match (filter, vm) {
            (Ok(filter), Some(vm)) if is_whole && wrong.is_empty() => {
                Ok(Checked { vm, boot, profile, engine, filter })
            }
            _ => Err(wrong),
        }
    }
}

/// Loads a profile's plugins without a look at this host's kernel: none yields.
pub(crate) fn load_kernel_agnostic(
    profile: &Profile,
    options: &LoadOptions,
) -> Result<Engine, Failure> {
    let options = LoadOptions { host_kernel: None, ..options.clone() };
    Engine::load(profile, &options)
        .with_context(|| format!("profile {}", profile.path.display()))
        .map_err(Failure::input)
}

/// Why claims do not fit KVM's filter. If the profile lists them, the remedy is there and
/// not in the plugin's manifest.
fn unfiltered(engine: &Engine, error: PackError) -> anyhow::Error {
    let listed = error.claim().and_then(|(plugin, range)| engine.listed(plugin, range));
    let Some(listed) = listed else { return error.into() };
    let text = error.to_string();
    // The remedy is the last part of these errors.
    let why = text.rsplit_once("; ").map_or(text.as_str(), |(why, _)| why);
    match error {
        PackError::TooScattered { .. } => {
            anyhow!("{why}; list fewer MSRs in {listed}, or MSRs that lie closer together")
        }
        _ => match error.misfits() {
            Some(misfits) => anyhow!("{why}; take {misfits} out of {listed}"),
            None => error.into(),
        },
    }
}

/// What loading depends on beside the profile. A cache that cannot be used is not an
/// error: everything works without one.
pub(crate) fn load_options(args: &args::Cache) -> LoadOptions {
    let cache = cache_directory(args).and_then(|directory| {
        CodeCache::open(&directory)
            .inspect_err(|error| {
                tracing::warn!(
                    "{error} with --cache-dir; until then every start compiles its plugins"
                );
            })
            .ok()
    });
    LoadOptions { host_kernel: host_kernel(), cache }
}

/// The folder of compiled plugins, if they are kept.
pub(crate) fn cache_directory(args: &args::Cache) -> Option<PathBuf> {
    match args.no_cache {
        true => None,
        false => args.cache_dir.clone().or_else(default_cache),
    }
}

/// As the XDG base directory specification says, which ignores relative paths.
fn default_cache() -> Option<PathBuf> {
    env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(env::home_dir()?.join(".cache")))
        .map(|caches| caches.join("wasmsr"))
}

/// The running kernel's version. If the system does not say it, `None`, and no plugin
/// yields.
pub(crate) fn host_kernel() -> Option<KernelVersion> {
    fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.parse().ok()
}
