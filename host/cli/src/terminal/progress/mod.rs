//! Progress of long work: a bar on standard error, if that is a terminal. It appears
//! after a moment and is cleared when the work ends.

mod screen;

use std::env;
use std::io::{self, IsTerminal, Read};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use self::screen::Screen;
use super::log_record::is_json;

/// Shorter work has no bar.
const PATIENCE: Duration = Duration::from_millis(700);

/// How often it may be drawn.
const DRAWN_A_SECOND: u8 = 20;

/// Work, and how much of it is done.
pub(crate) struct Progress {
    began: Instant,
    unit: Unit,
    /// `None` if it is not known.
    all: Option<u64>,
    done: u64,
    bar: Option<ProgressBar>,
}

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Steps,
}

impl Progress {
    /// Work on this many bytes, if the number is known.
    pub(crate) fn of_bytes(all: Option<u64>) -> Self {
        Self::of(all, Unit::Bytes)
    }

    /// Work in this many steps.
    pub(crate) fn of_steps(all: usize) -> Self {
        Self::of(Some(all as u64), Unit::Steps)
    }

    fn of(all: Option<u64>, unit: Unit) -> Self {
        Progress { began: Instant::now(), unit, all, done: 0, bar: None }
    }

    /// Follows the reading of a file.
    pub(crate) fn of_reading<R: Read>(self, source: R) -> impl Read {
        Reading { source, progress: self }
    }

    /// Notes that more is done.
    pub(crate) fn advance(&mut self, by: u64) {
        self.done = self.done.saturating_add(by);
        if self.bar.is_none() && self.began.elapsed() > PATIENCE && is_shown() {
            self.begin();
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn begin(&mut self) {
        let mut shown = shown();
        if shown.is_some() {
            // This work is a part of longer work, which has the bar.
            return;
        }
        clear_on_signals();
        let bar = ProgressBar::with_draw_target(
            self.all,
            ProgressDrawTarget::term_like_with_hz(Box::new(Screen), DRAWN_A_SECOND),
        );
        let template = match (self.unit, self.all) {
            (Unit::Bytes, Some(_)) => "{bar:40} {bytes} of {total_bytes}, {eta} left",
            (Unit::Bytes, None) => "{bytes} so far",
            (Unit::Steps, _) => "{bar:40} {pos} of {len}, {eta} left",
        };
        // The templates above are valid, so the fallback is never used.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("#> "));
        *shown = Some(bar.clone());
        self.bar = Some(bar);
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            *shown() = None;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// The bar that is on the screen.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints something to standard error while the bar is cleared.
pub(crate) fn aside<R>(print: impl FnOnce() -> R) -> R {
    match &*shown() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

fn is_shown() -> bool {
    let takes_back = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    takes_back && io::stderr().is_terminal() && !is_json()
}

/// From the first bar on, a signal that ends the process clears the bar first.
fn clear_on_signals() {
    static ONCE: Once = Once::new();
    // If this fails, a bar may stay on the screen, and nothing else is lost.
    ONCE.call_once(|| drop(watch_signals()));
}

fn watch_signals() -> io::Result<()> {
    const ENDING: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
    let came = Arc::new(AtomicBool::new(false));
    for signal in ENDING {
        // A second signal ends the process even if writing to the terminal blocks.
        flag::register_conditional_default(signal, came.clone())?;
        flag::register(signal, came.clone())?;
    }
    let mut signals = Signals::new(ENDING)?;
    thread::Builder::new().name("bar".into()).spawn(move || {
        for signal in signals.forever() {
            if let Some(bar) = &*shown() {
                bar.finish_and_clear();
            }
            // It fails for signals without a default action, and these have one.
            let _ = low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

struct Reading<R> {
    source: R,
    progress: Progress,
}

impl<R: Read> Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        match read {
            // What is printed at the end begins on an empty line.
            0 => self.progress.end(),
            read => self.progress.advance(read as u64),
        }
        Ok(read)
    }
}
