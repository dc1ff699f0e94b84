//! The log on standard error, as text or as lines of JSON. Its level can be changed while
//! the command runs.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as text, reload};

use super::console::{Stderr, stderr_is_coloured, write_field, write_stderr};
use super::log_record;
use crate::args::LogForm;

/// The level, once there is a log.
static LEVEL: OnceLock<LevelHandle> = OnceLock::new();

struct LevelHandle(reload::Handle<LevelFilter, Registry>);

/// Begins the log of this process.
pub(crate) fn begin(level: LevelFilter, form: LogForm) {
    let (filter, handle) = reload::Layer::new(level);
    let log: Box<dyn Layer<_> + Send + Sync> = match form {
        LogForm::Text => Box::new(
            text::layer()
                .fmt_fields(text::format::debug_fn(write_field))
                .with_writer(Stderr)
                // Reporting a lost line panics if standard error is closed.
                .log_internal_errors(false)
                .with_ansi(stderr_is_coloured())
                .with_target(false)
                .without_time(),
        ),
        LogForm::Json => {
            log_record::begin_json();
            Box::new(JsonLines(|line: &str| write_stderr(line)))
        }
    };
    // It fails if there is a log already, and then that one stays.
    if Registry::default().with(filter).with(log).try_init().is_ok() {
        let _ = LEVEL.set(LevelHandle(handle));
    }
}

/// Changes what is logged from here on; whether it could be changed.
pub(crate) fn set_level(level: LevelFilter) -> bool {
    LEVEL.get().is_some_and(|LevelHandle(handle)| handle.reload(level).is_ok())
}

/// A log in JSON, whose lines go to a function.
struct JsonLines<F>(F);

impl<S: Subscriber, F: Fn(&str) + 'static> Layer<S> for JsonLines<F> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut message = Message::default();
        event.record(&mut message);
        let text = message.text + &message.fields;
        (self.0)(&log_record::line(*event.metadata().level(), &text));
    }
}

/// The message of an event, and its other fields as the log in text has them.
#[derive(Default)]
struct Message {
    text: String,
    fields: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A String takes everything.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn an_event_is_a_line_and_the_level_can_be_changed() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let lines = seen.clone();
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        let json = JsonLines(move |line: &str| lines.lock().unwrap().push(line.to_owned()));
        tracing::subscriber::with_default(Registry::default().with(filter).with(json), || {
            let say = |number: u32| tracing::debug!(number, "a {}\nb", "\u{1b}");
            say(1);
            handle.reload(LevelFilter::DEBUG).unwrap();
            say(2);
            handle.reload(LevelFilter::ERROR).unwrap();
            say(3);
            tracing::warn!("not an error");
            tracing::error!("one");
        });
        let records: Vec<serde_json::Value> =
            seen.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let said: Vec<_> = records.iter().map(|it| (&it["level"], &it["message"])).collect();
        let expected = [("debug", "a \u{1b}\nb number=2"), ("error", "one")];
        assert_eq!(said.len(), 2);
        for ((level, message), expected) in said.iter().zip(expected) {
            assert_eq!((level.as_str(), message.as_str()), (Some(expected.0), Some(expected.1)));
        }
    }

    #[test]
    fn without_a_log_there_is_no_level_to_change() {
        assert!(!set_level(LevelFilter::DEBUG));
    }
}
