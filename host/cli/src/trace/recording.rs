//! A recording as the verbs read it: from a file or standard input, with the
//! boot that each line belongs to.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::anyhow;
use wasmsr_engine::record::{Line, Lines, RecordingError};

use super::plain::plain_up_to;
use crate::exit::Failure;

/// The lines of a recording, one at a time.
pub(crate) struct Recording {
    lines: Lines<Box<dyn BufRead>>,
    name: String,
    boot: u64,
    cut_off: bool,
}

impl Recording {
    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let stdin = path == Path::new("-");
        let path = if stdin { Path::new("(standard input)") } else { path };
        let source: Box<dyn BufRead> = if stdin {
            Box::new(io::stdin().lock())
        } else {
            let file = File::open(path)
                .map_err(|error| failure(&RecordingError::Read { path: path.to_owned(), error }))?;
            Box::new(BufReader::with_capacity(1 << 16, file))
        };
        let lines = Lines::new(source, path);
        let name = plain_up_to(&path.display().to_string(), 200);
        Ok(Recording { lines, name, boot: 0, cut_off: false })
    }

    /// What people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it ended in the middle of a line, which was said.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off
    }
}

impl Iterator for Recording {
    /// The boot's number and the line.
    type Item = Result<(u64, Line), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.lines.next()? {
            Ok((_, line)) => {
                if let Line::Boot(boot) = &line {
                    self.boot = boot.boot;
                }
                Some(Ok((self.boot, line)))
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

fn failure(error: &RecordingError) -> Failure {
    Failure::input(anyhow!(text(error)))
}

/// The reader quotes what it cannot read.
fn text(error: &RecordingError) -> String {
    plain_up_to(&error.to_string(), 600)
}
