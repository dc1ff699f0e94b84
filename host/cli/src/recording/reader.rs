//! Reads recordings, from a file or standard input, with the boot of each line. The
//! file may come from anywhere, so its text is not trusted.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::anyhow;
use wasmsr_engine::record::{Line, Lines, RecordingError};

use crate::exit::Failure;
use crate::terminal::plain::plain_up_to;
use crate::terminal::progress::Progress;

/// The lines of a recording, one at a time.
pub(crate) struct RecordingReader {
    lines: Lines<Box<dyn BufRead>>,
    name: String,
    boot: u64,
    cut_off: bool,
}

/// A line with its place.
pub(crate) struct Read {
    /// Counted from 1.
    pub(crate) number: usize,
    /// The number of the boot.
    pub(crate) boot: u64,
    pub(crate) line: Line,
}

impl RecordingReader {
    /// Opens a file, or standard input for `-`. How far it is read is shown on
    /// a terminal.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_with(path, |source, length| {
            Box::new(Progress::of_bytes(length).of_reading(source))
        })
    }

    /// Opens it without a bar: for verbs that print each line as it is read.
    pub(crate) fn open_silently(path: &Path) -> Result<Self, Failure> {
        Self::open_with(path, |source, _| source)
    }

    fn open_with(
        path: &Path,
        reading: impl FnOnce(Box<dyn io::Read>, Option<u64>) -> Box<dyn io::Read>,
    ) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let path = if stdin { Path::new("(standard input)") } else { path };
        let (source, length): (Box<dyn io::Read>, _) = if stdin {
            (Box::new(io::stdin().lock()), None)
        } else {
            let file = File::open(path)
                .map_err(|error| failure(&RecordingError::Read { path: path.to_owned(), error }))?;
            // A pipe has no length.
            let length = file.metadata().ok().filter(Metadata::is_file).map(|file| file.len());
            (Box::new(file), length)
        };
        let source = BufReader::with_capacity(1 << 16, reading(source, length));
        let lines = Lines::new(Box::new(source) as Box<dyn BufRead>, path);
        let name = plain_up_to(&path.display().to_string(), 200);
        Ok(RecordingReader { lines, name, boot: 0, cut_off: false })
    }

    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it ended in the middle of a line; the log has a line about that.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off
    }
}

impl Iterator for RecordingReader {
    type Item = Result<Read, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.next()? {
            Ok((number, line)) => {
                if let Line::Boot(boot) = &line {
                    self.boot = boot.boot;
                }
                Some(Ok(Read { number, boot: self.boot, line }))
            }
            Err(error @ RecordingError::CutOff { .. }) => {
                self.cut_off = true;
                tracing::warn!("{}", text(&error));
                None
            }
            Err(error) => Some(Err(failure(&error))),
        }
    }
}

/// Whether a file begins as recordings do, in this format or another. A full disk may
/// have cut off even the first line.
pub(crate) fn is_recording(path: &Path) -> bool {
    const HEAD: &[u8] = br#"{"kind":"boot","format":"#;
    let mut head = [0; HEAD.len()];
    if File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok()) && head == HEAD {
        return true;
    }
    let first = || Lines::open(path).ok()?.next();
    matches!(first(), Some(Ok(_) | Err(RecordingError::Format { .. })))
}

fn failure(error: &RecordingError) -> Failure {
    Failure::input(anyhow!(text(error)))
}

/// Harmless, since the reader quotes what it cannot read.
fn text(error: &RecordingError) -> String {
    plain_up_to(&error.to_string(), 600)
}
