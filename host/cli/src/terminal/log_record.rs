//! What one line of a log in JSON holds. With it everything on standard error is such a
//! line, what the command prints beside its result too.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use humantime::format_rfc3339_millis;
use serde::Serialize;
use tracing::Level;

use super::plain::json;

/// Set once, before anything is printed.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// The VM that this process runs, once it has a name.
static VM: RwLock<Option<Arc<str>>> = RwLock::new(None);

#[derive(Serialize)]
struct Record<'a> {
    /// RFC 3339, UTC, to the millisecond.
    time: String,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vm: Option<&'a str>,
    message: &'a str,
}

/// Makes everything on standard error lines of JSON.
pub(crate) fn begin_json() {
    IS_JSON.store(true, Relaxed);
}

/// Whether everything on standard error is lines of JSON.
pub(crate) fn is_json() -> bool {
    IS_JSON.load(Relaxed)
}

/// Names the VM in the records that follow.
pub(crate) fn set_vm(name: &str) {
    *VM.write().unwrap_or_else(PoisonError::into_inner) = Some(name.into());
}

/// A record made now, as a line. Nothing in the message can end the line or control a
/// terminal.
pub(crate) fn line(level: Level, message: &str) -> String {
    let vm = VM.read().unwrap_or_else(PoisonError::into_inner).clone();
    let time = format_rfc3339_millis(SystemTime::now()).to_string();
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let record = Record { time, level, vm: vm.as_deref(), message };
    // Text always has a form in JSON.
    json(&record).map_or(String::new(), |record| record + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_harmless_line() {
        let text = line(Level::WARN, "a\nb\u{1b}[2J\u{9b}1A\u{202e}\"\\\u{0}");
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.trim_end().contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
        let record: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(record["level"], "warn");
        assert_eq!(record["message"], "a\nb\u{1b}[2J\u{9b}1A\u{202e}\"\\\u{0}");
        let time = record["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        humantime::parse_rfc3339(time).unwrap();
    }
}
