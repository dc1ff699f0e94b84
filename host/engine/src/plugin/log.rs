//! What a plugin writes to the log, within its limit.

use std::sync::{Arc, Mutex, PoisonError};

use wasmsr_interface::counted;

use super::abi;
use crate::limits;
use crate::rate_limit::RateLimit;

/// The log of an instance and of those that take its place: one that fails does
/// not come back with more to say.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Mutex<RateLimit>>);

impl Default for Log {
    fn default() -> Self {
        Log(Arc::new(Mutex::new(RateLimit::new(limits::LOG_BURST, limits::LOG_PER_SECOND))))
    }
}

impl Log {
    /// Writes a line of the plugin `name`, as far as the limit allows.
    pub(super) fn say(&self, name: &str, level: u32, line: impl FnOnce() -> String) {
        let allowed = self.0.lock().unwrap_or_else(PoisonError::into_inner).allow();
        let Some(missed) = allowed else { return };
        if missed > 0 {
            tracing::warn!(
                "plugin {name}: {} dropped, it writes too many",
                counted(missed, "log line was", "log lines were")
            );
        }
        let line = line();
        match level {
            abi::ERROR => tracing::error!("plugin {name}: {line}"),
            abi::WARNING => tracing::warn!("plugin {name}: {line}"),
            abi::INFO => tracing::info!("plugin {name}: {line}"),
            _ => tracing::debug!("plugin {name}: {line}"),
        }
    }
}
