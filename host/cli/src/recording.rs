//! A recording as the verbs read it: from a file or standard input, with the
//! boot that each line belongs to. It may be anybody's file, and so may say
//! anything.

use std::fs::{self, File, Metadata};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use tempfile::NamedTempFile;
use wasmsr_engine::record::{Line, Lines, RecordingError};

use crate::exit::Failure;
use crate::plain::plain_up_to;
use crate::progress::Progress;

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

/// A recording that is made of another one. It appears whole or not at all.
pub(crate) struct NewRecording {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

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
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
        let file = file.with_context(|| cannot_write(&path)).map_err(Failure::input)?;
        Ok(NewRecording { file: BufWriter::new(file), path })
    }

    /// Writes the next line.
    pub(crate) fn write(&mut self, line: &Line) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .with_context(|| cannot_write(&self.path))
            .map_err(Failure::host)
    }

    /// Puts it in the place of what was there, for the same users.
    pub(crate) fn replace(self) -> Result<(), Failure> {
        self.finish(|file, path| {
            let mode = fs::metadata(path).map(|before| before.permissions());
            match mode.and_then(|mode| file.as_file().set_permissions(mode)) {
                Ok(()) => file.persist(path),
                Err(error) => Err(tempfile::PersistError { error, file }),
            }
        })
    }

    /// Puts it where nothing is yet.
    pub(crate) fn add(self) -> Result<(), Failure> {
        self.finish(|file, path| file.persist_noclobber(path))
    }

    fn finish(
        self,
        place: impl FnOnce(NamedTempFile, &Path) -> Result<File, tempfile::PersistError>,
    ) -> Result<(), Failure> {
        let NewRecording { file, path } = self;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(|file| place(file, &path).map_err(|error| error.error))
            .with_context(|| cannot_write(&path))
            .map_err(Failure::host)?;
        Ok(())
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
