//! What a build writes to standard error.

use std::io::Write as _;

/// Writes to standard error. If that is closed, the text is lost and the build goes on.
pub(crate) fn say(text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}
