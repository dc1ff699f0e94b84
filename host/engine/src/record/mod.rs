//! Recordings: every access of a run with its answer, and all host calls that the
//! plugins made meanwhile, as JSON Lines. A recording is enough to run the plugins
//! again, on any machine, with the same result.

mod absolute;
mod boot;
mod call;
mod call_log;
mod event;
mod hex;
mod line;
mod logging_host;
mod out;
mod reader;
mod recorder;
mod replay_host;
mod ring;
mod set;
mod sink;
mod writer;

pub(crate) use boot::{boot_line, swap_line};
pub use call::{ENGINE, HostCall, PluginCall, Switch};
pub(crate) use call_log::{CallLog, LoggedCall, during};
pub(crate) use event::{AccessEvent, WakeEvent};
pub use hex::{Bytes, Hex};
pub use line::{
    AccessLine, BootLine, BootPlugin, DroppedLine, EndLine, FORMAT, Line, Op, StartLine, SwapCause,
    SwapLine, WakeLine,
};
pub(crate) use logging_host::LoggingHost;
pub use reader::{Lines, RecordingError};
pub use recorder::Recorder;
pub(crate) use replay_host::{ReplayHost, replaying};
pub use ring::{Ring, RingCounts, Urgent};
pub use set::RecordedSet;
pub use sink::Stopped;
pub use writer::{RecordingEnd, RecordingWriter};
