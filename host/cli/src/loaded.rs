//! A profile with everything that follows from it. `check` shows one, `run`
//! boots one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use wasmsr_engine::plugin::CodeCache;
use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::KernelVersion;
use wasmsr_kvm::filter::{KvmFilter, PackError};

use crate::args;
use crate::profile::VmProfile;

/// One set of profile, plugins and filter that belong together.
pub(crate) struct Loaded {
    pub(crate) profile: VmProfile,
    pub(crate) engine: Engine,
    pub(crate) filter: KvmFilter,
}

impl Loaded {
    /// Reads the profile and its plugins, and checks them against each other, the
    /// ABI and KVM's limits. A boot can find further mistakes.
    pub(crate) fn load(path: &Path, options: &LoadOptions) -> anyhow::Result<Self> {
        let profile = VmProfile::read(path)?;
        let in_profile = || format!("profile {}", path.display());
        let engine = Engine::load(&profile.engine, options).with_context(in_profile)?;
        let filter = KvmFilter::pack(engine.exits())
            .map_err(|error| unfiltered(&engine, error))
            .with_context(in_profile)?;
        Ok(Loaded { profile, engine, filter })
    }

    /// As [`load`](Self::load), and also checks without a guest what a boot would
    /// check.
    pub(crate) fn load_and_check(path: &Path, options: &LoadOptions) -> anyhow::Result<Self> {
        let loaded = Self::load(path, options)?;
        let in_profile = || format!("profile {}", path.display());
        let VmProfile { boot, vm, .. } = &loaded.profile;
        loaded.engine.dry_run(vm.vcpus).with_context(in_profile)?;
        wasmsr_vmm::check_boot(boot, vm.memory, vm.vcpus).with_context(in_profile)?;
        Ok(loaded)
    }
}

/// Why claims do not fit KVM's filter. If the profile lists them, the remedy is there and
/// not in the plugin's manifest.
fn unfiltered(engine: &Engine, error: PackError) -> anyhow::Error {
    let (plugin, range) = error.claim();
    let Some(listed) = engine.listed(plugin, range) else { return error.into() };
    let text = error.to_string();
    // The remedy is the last part of these errors.
    let why = text.rsplit_once("; ").map_or(text.as_str(), |(why, _)| why);
    match error {
        PackError::TooScattered { .. } => {
            anyhow!("{why}; list fewer MSRs in {listed}, or MSRs that lie closer together")
        }
        _ => anyhow!("{why}; take {} out of {listed}", error.misfits()),
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
fn host_kernel() -> Option<KernelVersion> {
    fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.parse().ok()
}
