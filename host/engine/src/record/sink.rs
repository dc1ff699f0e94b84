//! Where the lines of a recording go.

use super::line::Line;
use super::out::Stopped;

/// Takes the lines of a recording, on the recorder's thread.
pub(super) trait Sink {
    /// Adds a line; whether the recording still takes some.
    fn line(&mut self, line: &Line) -> bool;

    /// Adds a line that even a recording at its limit has room for.
    fn last_line(&mut self, line: &Line);

    /// Puts what there is where it is to go.
    fn flush(&mut self);

    /// Why it takes no more.
    fn stopped(self) -> Option<Stopped>;
}
