//! Standard error, for people who wait for a build.

use std::io::{self, Write as _};

/// Writes to standard error. If that is closed, the text is lost and the build
/// continues.
pub(crate) fn say(text: &[u8]) {
    let _ = io::stderr().write_all(text);
}
