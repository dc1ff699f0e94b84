//! Opens what a run writes to beside its output, without waiting.

use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use rustix::fs::OFlags;

use crate::whole_file::behind_links;

/// Opens a file, pipe or device for writing. A pipe without a reader must not delay the
/// run, so opening it does not wait.
pub(super) fn open_at_once(options: &mut OpenOptions, path: &Path) -> anyhow::Result<File> {
    let at_once = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    match options.write(true).custom_flags(at_once).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            let is_socket = fs::metadata(path).is_ok_and(|there| there.file_type().is_socket());
            Err(anyhow!(match is_socket {
                true => "it is a socket; name a file",
                false => "the pipe has no reader; start the reader first",
            }))
        }
        opened => opened.context("check the path and its folder"),
    }
}

/// Whether a path ends in a name, and not as in `folder/` or `folder/..`.
pub(super) fn names_a_file(path: &Path) -> bool {
    let name = path.file_name();
    name.is_some_and(|name| path.as_os_str().as_bytes().ends_with(name.as_bytes()))
}

/// Whether two paths lead to one file, which may not be there yet. Devices such as
/// `/dev/null` take what two write.
pub(super) fn is_one_file(one: &Path, other: &Path) -> bool {
    if one == other {
        return true;
    }
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(a), Ok(b)) => {
            !a.file_type().is_char_device() && (a.dev(), a.ino()) == (b.dev(), b.ino())
        }
        (Err(_), Err(_)) => real(one).is_some_and(|place| Some(place) == real(other)),
        _ => false,
    }
}

/// Where a file would be made.
fn real(path: &Path) -> Option<PathBuf> {
    let path = behind_links(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
    Some(folder.join(path.file_name()?))
}
