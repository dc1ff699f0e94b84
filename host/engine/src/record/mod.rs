//! Recordings: every access of a run with its answer, and all that the plugins
//! asked of the host meanwhile, as JSON Lines. What is in one is enough to run
//! the plugins again, on any machine, with the same result.

mod call;
mod files;
mod hex;
mod line;
mod out;
pub(crate) mod prompt;
mod read;
mod recorder;
mod replay;
pub(crate) mod tape;

pub use call::{ENGINE, HostCall, PluginCall, Switch};
pub use hex::{Bytes, Hex};
pub use line::{Access, Boot, BootPlugin, Dropped, End, FORMAT, Line, Op, Start, Wake};
pub use read::{Lines, RecordingError};
pub(crate) use recorder::{Answered, Woken, boot_line};
pub use recorder::{Recorder, Recording, RecordingEnd, Stopped};
pub use replay::{Replay, ReplayError};
