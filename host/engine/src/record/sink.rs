//! Where the lines of a recording go.

use std::io;

use bytesize::ByteSize;

use super::line::Line;

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

/// Why a recording ended before its run.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The file takes no more.
    #[error("{0}")]
    File(io::Error),
    /// The recording has the size that it may have.
    #[error("it has reached its limit, {}", ByteSize(*.0))]
    Limit(u64),
    /// The file neither takes more nor fails.
    #[error("its file takes nothing, or too slowly")]
    Stuck,
}
