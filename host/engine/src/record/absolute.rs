//! Paths in a recording.

use std::path::{Path, PathBuf};

/// The path as one that leads to the same file from any folder. Bytes that are not
/// UTF-8 are replaced: a recording is text.
pub(super) fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    PathBuf::from(path.to_string_lossy().into_owned())
}
