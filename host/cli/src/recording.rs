//! A recording as the verbs read it: from a file or standard input, with the
//! boot that each line belongs to. It may be anybody's file, and so may say
//! anything.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use wasmsr_engine::record::{Line, Lines, RecordingError};

use crate::exit::Failure;
use crate::plain::plain_up_to;
use crate::progress::Progress;
use crate::whole_file::WholeFile;

/// The lines of a recording, one at a time.
pub(crate) struct Recording {
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

impl Recording {
    /// Opens a file, or standard input for `-`. How far it is read is shown on
    /// a terminal.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_with(path, |source, length| {
            Box::new(Progress::of_bytes(length).of_reading(source))
        })
    }

    /// The same for who prints what is read, so that all can see how far it is.
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
            // A pipe has none.
            let length = file.metadata().ok().filter(Metadata::is_file).map(|file| file.len());
            (Box::new(file), length)
        };
        let source = BufReader::with_capacity(1 << 16, reading(source, length));
        let lines = Lines::new(Box::new(source) as Box<dyn BufRead>, path);
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

/// Whether a file begins as recordings do, of whatever format.
pub(crate) fn is_recording(path: &Path) -> bool {
    let first = || Lines::open(path).ok()?.next();
    matches!(first(), Some(Ok(_) | Err(RecordingError::Format { .. })))
}

/// A recording that is made of another one.
pub(crate) struct NewRecording(WholeFile);

impl NewRecording {
    /// Begins to write beside `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let why =
                anyhow!("a recording on standard input cannot be written anew; name its file");
            return Err(Failure::input(why));
        }
        // What a link leads to is replaced, not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = WholeFile::beside(&path).with_context(|| cannot_write(&path));
        file.map(NewRecording).map_err(Failure::input)
    }

    /// Writes the next line.
    pub(crate) fn write(&mut self, line: &Line) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.0, line).map_err(io::Error::from);
        written
            .and_then(|()| self.0.write_all(b"\n"))
            .with_context(|| cannot_write(self.0.place()))
            .map_err(Failure::host)
    }

    /// Puts it in the place of what was there, for the same users.
    pub(crate) fn replace(self) -> Result<(), Failure> {
        self.put(|file| {
            file.permit(fs::metadata(file.place())?.permissions())?;
            file.replace()
        })
    }

    /// Puts it where nothing is yet.
    pub(crate) fn add(self) -> Result<(), Failure> {
        self.put(WholeFile::add)
    }

    fn put(self, how: impl FnOnce(WholeFile) -> io::Result<()>) -> Result<(), Failure> {
        let place = self.0.place().to_owned();
        how(self.0).with_context(|| cannot_write(&place)).map_err(Failure::host)
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write recording {}", path.display())
}

fn failure(error: &RecordingError) -> Failure {
    Failure::input(anyhow!(text(error)))
}

/// The reader quotes what it cannot read.
fn text(error: &RecordingError) -> String {
    plain_up_to(&error.to_string(), 600)
}
