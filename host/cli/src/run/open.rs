//! Opens what a run writes to beside its output, without waiting.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, anyhow};
use rustix::fs::OFlags;

/// Opens a file, pipe or device for writing. A pipe without a reader must not delay the
/// run, so opening it does not wait.
pub(super) fn open_at_once(options: &mut OpenOptions, path: &Path) -> anyhow::Result<File> {
    let at_once = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    match options.write(true).custom_flags(at_once).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            Err(anyhow!("the pipe has no reader; start the reader first"))
        }
        opened => opened.context("check the path and its folder"),
    }
}
