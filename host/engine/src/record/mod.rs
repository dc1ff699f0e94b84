//! Recordings: every access of a run with its answer, and all that the plugins
//! asked of the host meanwhile, as JSON Lines. What is in one is enough to run
//! the plugins again, on any machine, with the same result.

mod call;
pub(crate) mod call_log;
mod files;
mod hex;
mod line;
mod out;
mod read;
mod recorder;
mod replay;
pub(crate) mod replay_host;

pub use call::{ENGINE, HostCall, PluginCall, Switch};
pub use hex::{Bytes, Hex};
pub use line::{
    AccessLine, BootLine, BootPlugin, DroppedLine, EndLine, FORMAT, Line, Op, StartLine, WakeLine,
};
pub use read::{Lines, RecordingError};
pub(crate) use recorder::{Answered, Woken, boot_line};
pub use recorder::{Recorder, RecordingEnd, RecordingWriter, Stopped};
pub use replay::{Replay, ReplayError};
