//! The file of `run --record`.

use std::fs::{File, Metadata, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use rustix::process::geteuid;
use wasmsr_engine::record::{Recorder, RecordingEnd, RecordingWriter, Stopped};
use wasmsr_interface::counted;

use super::open::open_at_once;
use super::summary::RecordingSummary;
use crate::exit::Failure;
use crate::recording::reader::is_recording;
use crate::terminal::console::say;

/// Only the user may read a recording: it has what plugins read from guest memory.
const MODE: u32 = 0o600;

/// A recording that is being written, with its file.
pub(crate) struct RecordFile {
    recording: RecordingWriter,
    path: PathBuf,
}

fn open(path: &Path) -> anyhow::Result<Fresh> {
    let mut options = File::options();
    let options = options.create(true).truncate(false).mode(MODE);
    let file = open_at_once(options, path)?;
    let about = file.metadata()?;
    if about.file_type().is_block_device() {
        return Err(anyhow!("it is a block device; name a file"));
    }
    if about.is_file() {
        claim(&file, &about, path)?;
    }
    // From here on the file may block: only the thread that writes waits for it.
    rustix::io::ioctl_fionbio(&file, false)?;
    Ok(Fresh { file, older: about.is_file() })
}

/// Makes sure that a regular file belongs to the user, is a recording, is not used by
/// another run, and can be read by the user alone.
pub(super) fn claim(file: &File, about: &Metadata, path: &Path) -> anyhow::Result<()> {
    if about.uid() != geteuid().as_raw() {
        let uid = about.uid();
        return Err(anyhow!("it belongs to another user (uid {uid}), who could read it"));
    }
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(anyhow!("another run records to it; name another file"));
        }
        // Not every file system has locks.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    if about.len() > 0 && !is_recording(path) {
        return Err(anyhow!("the file exists and is not a recording; name another"));
    }
    file.set_permissions(Permissions::from_mode(MODE)).context("its mode cannot be changed")
}

/// A file that is emptied at the first write.
struct Fresh {
    file: File,
    /// Whether it may still have an older recording.
    older: bool,
}

impl Write for Fresh {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.older {
            self.file.set_len(0)?;
            self.older = false;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl RecordFile {
    /// Begins a recording in a file, or in a pipe or device that takes it. An older
    /// recording is emptied when the first line is written; any other file is
    /// refused.
    pub(crate) fn begin(path: &Path, limit: ByteSize) -> Result<Self, Failure> {
        let cannot = || format!("cannot record to {}", path.display());
        let file = open(path).with_context(cannot).map_err(Failure::input)?;
        let recording = RecordingWriter::begin(file, limit.as_u64());
        let recording = recording.with_context(cannot).map_err(Failure::host)?;
        Ok(RecordFile { recording, path: path.to_owned() })
    }

    /// The recorder for accesses.
    pub(crate) fn recorder(&self) -> &Recorder {
        self.recording.recorder()
    }

    /// Writes the rest, and says on standard error what was recorded.
    pub(crate) fn finish(self) -> RecordingSummary {
        let RecordingEnd { accesses, wakes, dropped, bytes, stopped } = self.recording.finish();
        let path = self.path.display();
        match &stopped {
            Some(why) => {
                let more = match why {
                    Stopped::Limit(_) => "; --record-limit sets another",
                    Stopped::File(_) | Stopped::Stuck => "",
                };
                tracing::error!(
                    "recording {path}: {why}; {} missing{more}",
                    counted(dropped, "access or timer is", "accesses and timers are")
                );
            }
            None if dropped > 0 => tracing::warn!(
                "recording {path}: {} missing, since the file could not be written as fast; \
                 record to a faster disk",
                counted(dropped, "access or timer is", "accesses and timers are")
            ),
            None => {}
        }
        // Without a boot nothing was written, and an older recording is still there.
        if bytes > 0 || stopped.is_some() {
            let recorded = counted(accesses, "access", "accesses");
            say(&format!("wasmsr: recorded {recorded} to {path}"));
        }
        let (path, error) = (path.to_string(), stopped.map(|why| why.to_string()));
        RecordingSummary { path, lines: accesses + wakes, dropped, error }
    }
}
