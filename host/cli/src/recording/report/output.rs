//! Writes the page. It appears whole or not at all, has the permissions of the
//! recording, and never replaces a recording.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::exit::Failure;
use crate::recording::reader::is_recording;
use crate::terminal::console;
use crate::whole_file::{WholeFile, behind_links};

/// Where a page may be written.
pub(super) enum Output {
    Stdout,
    /// A device or a pipe, which stays what it is.
    There(PathBuf),
    /// A file, which is new or replaced.
    File {
        path: PathBuf,
        mode: u32,
    },
}

impl Output {
    /// Checks the place before the recording is read.
    pub(super) fn of(path: &Path, recording: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Output::Stdout);
        }
        let source = source(recording);
        let mode = match &source {
            Some(source) if recording != Path::new("-") => source.mode() & 0o777,
            _ => 0o600,
        };
        // A link stays a link.
        let real = behind_links(path);
        let Ok(there) = fs::metadata(&real) else {
            return Ok(Output::File { path: real, mode });
        };
        if there.file_type().is_block_device() {
            return Err(Failure::input(anyhow!(
                "the page {} would overwrite a block device; name a file",
                path.display()
            )));
        }
        let is_source = source.is_some_and(|source| is_same(&source, &there));
        if is_source || (there.is_file() && is_recording(&real)) {
            let what = if is_source { "the recording" } else { "a recording" };
            return Err(Failure::input(anyhow!(
                "the page {} would replace {what}; give it another name",
                path.display()
            )));
        }
        if there.is_file() || there.is_dir() {
            return Ok(Output::File { path: real, mode });
        }
        Ok(Output::There(real))
    }

    /// Writes the page.
    pub(super) fn write(self, page: &str) -> Result<(), Failure> {
        let (written, path) = match self {
            Output::Stdout => {
                let mut out = console::output();
                let written = out.write_all(page.as_bytes()).and_then(|()| out.flush());
                return console::reached(written).map(|_| ()).map_err(Failure::output);
            }
            Output::There(path) => (fs::write(&path, page), path),
            Output::File { path, mode } => (replace(&path, page, mode), path),
        };
        written
            .with_context(|| format!("cannot write the page {}", path.display()))
            .map_err(Failure::input)
    }
}

fn replace(path: &Path, page: &str, mode: u32) -> io::Result<()> {
    let mut file = WholeFile::beside(path)?;
    file.write_all(page.as_bytes())?;
    file.permit(Permissions::from_mode(mode))?;
    file.replace()
}

/// The recording's file, if there is one.
fn source(recording: &Path) -> Option<Metadata> {
    if recording == Path::new("-") {
        File::from(io::stdin().as_fd().try_clone_to_owned().ok()?).metadata().ok()
    } else {
        fs::metadata(recording).ok()
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
