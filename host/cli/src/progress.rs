//! How far long work is: a bar on standard error, where that is a terminal. It
//! comes when the work has gone on for a while, and goes with it.

use std::env;
use std::io::{self, IsTerminal, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that takes no longer is not worth a bar.
const PATIENCE: Duration = Duration::from_millis(700);

/// Work of known length.
pub(crate) struct Progress {
    began: Instant,
    unit: Unit,
    all: u64,
    done: u64,
    bar: Option<ProgressBar>,
}

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Steps,
}

impl Progress {
    /// So many bytes.
    pub(crate) fn of_bytes(all: u64) -> Self {
        Self::of(all, Unit::Bytes)
    }

    /// So many steps.
    pub(crate) fn of_steps(all: usize) -> Self {
        Self::of(all as u64, Unit::Steps)
    }

    fn of(all: u64, unit: Unit) -> Self {
        Progress { began: Instant::now(), unit, all, done: 0, bar: None }
    }

    /// Follows the reading of a file.
    pub(crate) fn of_reading<R: Read>(self, source: R) -> impl Read {
        Reading { source, progress: self }
    }

    /// More is done.
    pub(crate) fn advance(&mut self, by: u64) {
        self.done = self.done.saturating_add(by);
        if self.bar.is_none() && self.began.elapsed() > PATIENCE && is_shown() {
            self.bar = Some(self.begin());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
    }

    fn begin(&self) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(self.all), ProgressDrawTarget::stderr());
        let template = match self.unit {
            Unit::Bytes => "{bar:40} {bytes} of {total_bytes}, {eta} left",
            Unit::Steps => "{bar:40} {pos} of {len}, {eta} left",
        };
        // Falls back to the usual style; the templates above are right.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("#> "));
        *shown() = Some(bar.clone());
        bar
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

/// Prints something to standard error with no bar in its way.
pub(crate) fn aside<R>(print: impl FnOnce() -> R) -> R {
    match &*shown() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

fn is_shown() -> bool {
    io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

struct Reading<R> {
    source: R,
    progress: Progress,
}

impl<R: Read> Read for Reading<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        match read {
            // What is said at the end shall find an empty line.
            0 => self.progress.end(),
            read => self.progress.advance(read as u64),
        }
        Ok(read)
    }
}
