//! The log of the host calls that plugins make during one access.
//!
//! The engine calls the host on the thread of the vCPU whose access it answers, and
//! one thread answers one access at a time. So the log belongs to the thread, and
//! nothing has to be handed through the plugins.

use std::cell::RefCell;
use std::sync::Arc;

use super::absolute::absolute;
use super::call::{HostCall, PluginCall};

/// A call with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedCall {
    pub(crate) plugin: Arc<str>,
    pub(crate) call: HostCall,
}

/// Host calls in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallLog {
    pub(crate) calls: Vec<LoggedCall>,
    /// Whether calls are missing because the log was full.
    pub(crate) cut: bool,
    /// Bytes that `calls` would have if none were missing.
    size: usize,
}

/// Most bytes that the log of one access, or of the start of all plugins, may hold:
/// a plugin's fuel may allow it to read far more.
const LONGEST: usize = 1 << 20;

thread_local! {
    /// The log of the call of [`during`] that runs on this thread.
    static LOG: RefCell<Option<CallLog>> = const { RefCell::new(None) };
}

/// Runs `f` and returns what plugins asked of [`LoggingHost`](super::LoggingHost)s
/// meanwhile. Calls outside are not logged.
pub(crate) fn during<R>(f: impl FnOnce() -> R) -> (R, CallLog) {
    let outer = LOG.replace(Some(CallLog::default()));
    let result = f();
    let log = LOG.replace(outer);
    (result, log.unwrap_or_default())
}

/// Whether a log is being written on this thread.
#[inline]
pub(super) fn is_written() -> bool {
    LOG.with_borrow(Option::is_some)
}

/// Adds a call to the log that is being written on this thread.
pub(super) fn note(plugin: &Arc<str>, call: HostCall) {
    LOG.with_borrow_mut(|log| {
        if let Some(log) = log {
            log.push(LoggedCall { plugin: plugin.clone(), call });
        }
    });
}

impl CallLog {
    /// The log with no calls, as if all were missing.
    pub(crate) fn all_cut() -> Self {
        CallLog { cut: true, ..CallLog::default() }
    }

    fn push(&mut self, logged: LoggedCall) {
        self.size = self.size.saturating_add(logged.size());
        match self.size <= LONGEST {
            true => self.calls.push(logged),
            false => self.cut = true,
        }
    }

    /// Adds what was logged later.
    pub(crate) fn append(&mut self, later: CallLog) {
        later.calls.into_iter().for_each(|logged| self.push(logged));
        if later.cut {
            self.cut = true;
            self.size = self.size.max(later.size);
        }
    }

    /// Some of the calls, of a log that has all of them or is cut as this one is.
    pub(crate) fn part(&self, calls: impl Iterator<Item = LoggedCall>) -> CallLog {
        let calls: Vec<LoggedCall> = calls.collect();
        let size = calls.iter().map(LoggedCall::size).sum();
        CallLog { calls, cut: self.cut, size }
    }

    /// The calls of one plugin.
    pub(crate) fn of(&self, plugin: &str) -> CallLog {
        self.part(self.calls.iter().filter(|logged| *logged.plugin == *plugin).cloned())
    }

    /// The calls that changed something.
    pub(crate) fn effects(&self) -> impl Iterator<Item = &HostCall> {
        self.calls.iter().map(|logged| &logged.call).filter(|call| call.is_effect())
    }

    /// Bytes that the calls hold in memory.
    pub(super) fn size(&self) -> usize {
        self.calls.iter().map(LoggedCall::size).sum()
    }

    /// The calls as a recording has them.
    pub(crate) fn into_plugin_calls(self) -> Vec<PluginCall> {
        let calls = self.calls.into_iter();
        calls.map(LoggedCall::into_plugin_call).collect()
    }
}

impl LoggedCall {
    fn size(&self) -> usize {
        size_of::<LoggedCall>() + self.call.size()
    }

    fn into_plugin_call(self) -> PluginCall {
        let LoggedCall { plugin, mut call } = self;
        if let HostCall::HostFile { path, .. } = &mut call {
            *path = absolute(path);
        }
        PluginCall { plugin: plugin.to_string(), call }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(count: u32) {
        (0..count).for_each(|value| note(&"p".into(), HostCall::HostCpus { value }));
    }

    #[test]
    fn only_calls_within_are_logged() {
        asks(3);
        let (inner, outer) = during(|| {
            asks(1);
            let ((), inner) = during(|| asks(5));
            asks(1);
            inner
        });
        asks(3);
        assert_eq!((inner.calls.len(), outer.calls.len()), (5, 2));
        assert_eq!(during(|| ()).1.calls, []);
    }

    #[test]
    fn a_log_is_written_within_and_nowhere_else() {
        assert!(!is_written());
        assert!(during(is_written).0);
        during(|| {
            during(|| ());
            assert!(is_written(), "the outer log goes on");
            assert!(!std::thread::spawn(is_written).join().unwrap());
        });
        assert!(!is_written());
    }

    #[test]
    fn logs_that_are_put_together_have_the_limit_of_one() {
        let most = u32::try_from(LONGEST / size_of::<LoggedCall>()).unwrap();
        let mut all = CallLog::default();
        for count in [most - 1, 1] {
            all.append(during(|| asks(count)).1);
        }
        assert!(!all.cut);
        all.append(during(|| asks(1)).1);
        assert!(all.cut && all.calls.len() == most as usize);
        let ((), too_long) = during(|| asks(most + 1));
        assert!(too_long.cut && too_long.calls.len() == most as usize);
        let mut all = CallLog::default();
        all.append(too_long);
        all.append(during(|| asks(1)).1);
        assert!(all.cut && all.calls.len() == most as usize);
    }
}
