//! Why a loaded plugin does not start.

use std::path::PathBuf;
use std::sync::Arc;

use crate::plugin::{InstanceError, Plugin};

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
