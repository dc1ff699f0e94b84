//! What a loaded profile has, to be shown.

use std::sync::Arc;

use wasmsr_interface::{Directions, KernelVersion, MsrRange};

use crate::manifest::{Manifest, Scope};
use crate::plugin::Plugin;
use crate::profile::{PluginConfig, Sha256};

/// What is known of a loaded plugin.
#[derive(Debug, Clone, Copy)]
pub struct PluginInfo<'a> {
    /// Its name in this VM.
    pub name: &'a Arc<str>,
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

/// A plugin that leaves its MSRs to this host's kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YieldedPlugin {
    /// Its name.
    pub name: Arc<str>,
    /// The profile's `kernel-from`.
    pub from: KernelVersion,
    /// The host's kernel.
    pub host: KernelVersion,
}

/// One range of the MSR map, with a plugin that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions.
    pub directions: Directions,
    /// The plugin.
    pub plugin: Arc<str>,
    /// Where the state is.
    pub scope: Scope,
    /// Whether it only answers what an earlier plugin passes on.
    pub fallback: bool,
}

impl<'a> PluginInfo<'a> {
    pub(super) fn of(plugin: &'a Plugin) -> Self {
        PluginInfo {
            name: &plugin.name,
            manifest: &plugin.manifest,
            config: &plugin.config,
            size: plugin.size,
            sha256: plugin.sha256,
            from_cache: plugin.from_cache,
        }
    }
}
