//! What can go wrong between a profile and its live plugins, each with the
//! plugin, the MSR and the remedy.

use std::path::PathBuf;
use std::sync::Arc;

use wasmsr_interface::{Direction, MsrRange};

use crate::cpuid::CpuidConflict;
use crate::plugin::{InstanceError, ModuleError, Plugin};

/// Why a profile's plugins cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// wasmtime does not start.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// One plugin's file.
    #[error("plugin {}", .path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ModuleError,
    },
    /// Two plugins of one name.
    #[error("{} and {} are both plugin `{name}`; load only one of them", .first.display(), .second.display())]
    SameName {
        /// The name.
        name: Arc<str>,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Two plugins that claim the same accesses.
    #[error(
        "plugins `{first}` and `{second}` both claim the {direction} of {}{}; take one out of the \
         profile, or write `fallback = true` for `{second}` to let it answer what `{first}` passes on",
        .range, .range.first().name().map(|name| format!(" ({name})")).unwrap_or_default()
    )]
    Claimed {
        /// The earlier plugin.
        first: Arc<str>,
        /// The later one.
        second: Arc<str>,
        /// The accesses' direction.
        direction: Direction,
        /// The MSRs that both claim.
        range: MsrRange,
    },
    /// Two plugins that disagree on CPUID.
    #[error(transparent)]
    Cpuid(#[from] CpuidConflict),
    /// A shadow of a plugin that is not there.
    #[error(
        "{}: `shadow-of = \"{of}\"` names no plugin of this profile; its plugins are {names}",
        .shadow.display()
    )]
    NoLeader {
        /// The shadow's file.
        shadow: PathBuf,
        /// Whom it names.
        of: String,
        /// Whom it could name.
        names: String,
    },
    /// More slots than can be numbered.
    #[error("more than {} plugins; load fewer", u16::MAX / 2)]
    TooMany,
}

/// Why a loaded plugin does not start.
#[derive(Debug, thiserror::Error)]
#[error("plugin {} (`{name}`): {why}", .path.display())]
pub struct StartError {
    name: Arc<str>,
    path: PathBuf,
    why: String,
}

impl StartError {
    pub(crate) fn of(plugin: &Plugin, error: &InstanceError) -> Self {
        let (name, path) = (plugin.name.clone(), plugin.path.clone());
        StartError { name, path, why: error.to_string() }
    }
}

/// Why the state of a VM's plugins is not saved.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{name}`: {why}")]
pub struct SaveError {
    pub(crate) name: Arc<str>,
    pub(crate) why: String,
}

/// Why saved state does not come back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A plugin does not even start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// State of a plugin that the profile does not have.
    #[error(
        "the saved state holds state of plugin `{name}`, which this profile does not load with that scope; load it, or save without it"
    )]
    NoPlugin {
        /// The plugin that saved.
        name: String,
    },
    /// Intercepts that the plugin's manifest does not claim.
    #[error(
        "the saved state holds intercepts of plugin `{name}` that it does not claim here; load the version that saved them, or save without them"
    )]
    NotClaimed {
        /// The plugin that saved.
        name: String,
    },
    /// State of a vCPU that this VM does not have.
    #[error(
        "the saved state holds state of plugin `{name}` for vCPU {vcpu}, but this VM has {count} vCPUs; give it as many as the one that was saved"
    )]
    NoVcpu {
        /// The plugin that saved.
        name: String,
        /// The vCPU whose instance it was.
        vcpu: usize,
        /// vCPUs there are.
        count: usize,
    },
    /// A plugin refuses what it is given.
    #[error("plugin `{name}` does not take the state that its version {version} saved: {why}")]
    Refused {
        /// The plugin.
        name: String,
        /// The version that saved.
        version: String,
        /// The plugin's words, or its failure.
        why: String,
    },
    /// The VMM's filter does not take the saved intercepts.
    #[error("the saved intercepts cannot be restored: {0}")]
    Exits(String),
}
