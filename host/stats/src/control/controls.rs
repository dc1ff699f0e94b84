//! What a VMM does for its control socket.

use std::sync::Arc;

use super::messages::{Disable, Enable, LogLevel, Record, Swap, Swapped, VmInfo};

/// What can be done at once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the paths that they come from are documented")]
pub enum Action {
    Disable(Disable),
    Enable(Enable),
    Pause,
    Resume,
    Reset,
    Stop,
    PowerDown,
    Log(LogLevel),
}

/// What takes longer, and is done one after the other.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the paths that they come from are documented")]
pub enum Job {
    Swap(Swap),
    Rollback,
    Record(Record),
}

/// Why something is not done: a sentence for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// What a VMM does for its control socket.
pub trait Controls: Send + Sync {
    /// The VM now. It must not block: it is asked on the thread that serves all readers.
    fn vm(&self) -> VmInfo;

    /// Does something at once, on the same thread.
    ///
    /// # Errors
    /// [`Refusal`] with the reason.
    fn act(&self, action: Action) -> Result<(), Refusal>;

    /// Does a job, on a thread for jobs. A verdict that comes later is told to `progress`.
    ///
    /// # Errors
    /// [`Refusal`] with the reason; nothing has changed then.
    fn perform(&self, job: Job, progress: Progress) -> Result<Option<Swapped>, Refusal>;
}

/// Where the verdict of a job goes.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(String) + Send + Sync>);

impl Progress {
    /// Hands a verdict to `told`.
    pub fn new(told: impl Fn(String) + Send + Sync + 'static) -> Self {
        Progress(Arc::new(told))
    }

    /// Says how the probation that followed a job has ended.
    pub fn verdict(&self, text: String) {
        (self.0)(text);
    }
}
