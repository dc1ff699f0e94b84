//! The file of `run --record`.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use wasmsr_engine::record::{Lines, Recorder, Recording, RecordingEnd, RecordingError};

use crate::console::say;
use crate::exit::Failure;
use crate::summary::RecordingSummary;

/// A recording with the file that it goes to.
pub(crate) struct Recorded {
    recording: Recording,
    path: PathBuf,
}

/// Begins a recording in a file that only the user may read: it holds what
/// plugins read of guest memory. An older recording there is gone; anything
/// else is left alone.
pub(crate) fn begin(path: &Path) -> Result<Recorded, Failure> {
    if is_something_else(path) {
        let path = path.display();
        let error = anyhow!("--record {path}: the file exists and is no recording; name another");
        return Err(Failure::input(error));
    }
    let cannot = || format!("cannot record to {}; check the path and its folder", path.display());
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(path).with_context(cannot).map_err(Failure::input)?;
    let recording = Recording::begin(file).with_context(cannot).map_err(Failure::host)?;
    Ok(Recorded { recording, path: path.to_owned() })
}

fn is_something_else(path: &Path) -> bool {
    let length = fs::metadata(path).map_or(0, |file| if file.is_file() { file.len() } else { 0 });
    let first = || Lines::open(path).ok()?.next();
    length > 0 && !matches!(first(), Some(Ok(_) | Err(RecordingError::Format { .. })))
}

impl Recorded {
    /// Where accesses go.
    pub(crate) fn recorder(&self) -> &Recorder {
        self.recording.recorder()
    }

    /// Writes the rest and says what became of it.
    pub(crate) fn finish(self) -> RecordingSummary {
        let RecordingEnd { lines, dropped, error } = self.recording.finish();
        let path = self.path.display();
        if let Some(error) = &error {
            tracing::error!("recording {path}: {error}; {dropped} accesses are missing at its end");
        } else if dropped > 0 {
            tracing::warn!(
                "recording {path}: {dropped} accesses came faster than the file took them and are \
                 missing; record to a faster disk"
            );
        }
        say(&format!("wasmsr: recorded {lines} accesses to {path}"));
        let (path, error) = (path.to_string(), error.map(|error| error.to_string()));
        RecordingSummary { path, lines, dropped, error }
    }
}
