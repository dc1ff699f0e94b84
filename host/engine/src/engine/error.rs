//! Why a profile's plugins cannot be loaded, with the plugin, the MSR and the remedy.

use std::path::PathBuf;
use std::sync::Arc;

use wasmsr_interface::{Direction, MsrRange};

use crate::manifest::CpuidRefused;
use crate::plugin::ModuleError;

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
    #[error("{} and {} are both plugin `{name}`; give one of them another name, such as `name = \"{name}-2\"` in its [[plugin]], or load only one of them", .first.display(), .second.display())]
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
        "plugins `{first}` and `{second}` both claim the {direction} of {}{}; {remedy}, \
         or write `fallback = true` for `{second}` to let it answer what `{first}` passes on",
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
        /// Where one of the two can be edited.
        remedy: String,
    },
    /// Plugins, or a plugin and the profile, that disagree on CPUID.
    #[error(transparent)]
    Cpuid(#[from] CpuidRefused),
    /// A shadow of a plugin that the profile does not have.
    #[error(
        "{}: `shadow-of = \"{of}\"` names no plugin of this profile; its plugins are {names}",
        .shadow.display()
    )]
    NoLeader {
        /// The shadow's file.
        shadow: PathBuf,
        /// The name that it gives.
        of: String,
        /// The names that it could give.
        names: String,
    },
    /// A kernel shadow of a plugin that the profile does not have.
    #[error(
        "the [[plugin]] with `kernel = true`: `shadow-of = \"{of}\"` names no plugin of this \
         profile; its plugins are {names}"
    )]
    NoKernelLeader {
        /// The name that it gives.
        of: String,
        /// The names that it could give.
        names: String,
    },
    /// More slots than can be numbered.
    #[error("more than {} plugins; load fewer", u16::MAX / 2)]
    TooMany,
}
