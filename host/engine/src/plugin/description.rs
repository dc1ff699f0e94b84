//! What is known of a plugin once it is loaded.

use std::path::PathBuf;
use std::sync::Arc;

use crate::manifest::{Held, Manifest};
use crate::profile::{PluginConfig, Sha256};

/// What is known of a loaded plugin: its file, its manifest, what the profile says of
/// it, and what it may do.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    pub(crate) path: PathBuf,
    /// Bytes of the file.
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    pub(crate) manifest: Manifest,
    pub(crate) config: PluginConfig,
    /// The name in texts: that of the manifest, but for shadows.
    pub(crate) name: Arc<str>,
    pub(crate) from_cache: bool,
    pub(crate) held: Held,
}
