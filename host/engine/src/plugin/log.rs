//! What a plugin writes to the log, within its limit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::abi;
use crate::limits;
use crate::rate_limit::RateLimit;

/// The log of an instance and of those that take its place: one that fails does
/// not come back with more to say.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Limited>);

#[derive(Debug)]
struct Limited {
    plugin: Arc<str>,
    limit: Mutex<RateLimit>,
}

impl Log {
    /// The log of the plugin with this name.
    pub(crate) fn of(plugin: &Arc<str>) -> Self {
        let limit = Mutex::new(RateLimit::new(limits::LOG_BURST, limits::LOG_PER_SECOND));
        Log(Arc::new(Limited { plugin: plugin.clone(), limit }))
    }

    /// Whether there is room for one more line, which takes the room.
    pub(super) fn has_room(&self) -> bool {
        let allowed = self.0.limit().allow();
        self.0.say_dropped(allowed.unwrap_or(0));
        allowed.is_some()
    }

    /// Writes a line for which there is room.
    pub(super) fn write(&self, level: u32, line: &str) {
        let plugin = &self.0.plugin;
        match level {
            abi::ERROR => tracing::error!("plugin {plugin}: {line}"),
            abi::WARNING => tracing::warn!("plugin {plugin}: {line}"),
            abi::INFO => tracing::info!("plugin {plugin}: {line}"),
            _ => tracing::debug!("plugin {plugin}: {line}"),
        }
    }

    /// Says how many lines were dropped of which the log does not say so yet.
    pub(crate) fn settle(&self) {
        let dropped = self.0.limit().take_refused();
        self.0.say_dropped(dropped);
    }
}

impl Limited {
    fn limit(&self) -> MutexGuard<'_, RateLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_dropped(&self, lines: u64) {
        let (plugin, s) = (&self.plugin, if lines == 1 { " was" } else { "s were" });
        if lines > 0 {
            tracing::warn!("plugin {plugin}: {lines} log line{s} dropped, it writes too many");
        }
    }
}

/// Instances may end without a call that says so, as those of a dry run do.
impl Drop for Limited {
    fn drop(&mut self) {
        let dropped = self.limit().take_refused();
        self.say_dropped(dropped);
    }
}
