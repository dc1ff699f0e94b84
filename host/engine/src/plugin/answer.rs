//! What came of a call into a plugin.

use std::fmt;

use bytesize::ByteSize;
use wasmsr_interface::Outcome;

/// A plugin's answer to an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A read's value.
    Value(u64),
    /// The write was taken.
    Done,
    /// #GP in the guest.
    Fault,
    /// KVM's own answer.
    Kernel,
    /// Passed on to the next plugin, or to the policy.
    Pass,
}

impl Answer {
    /// What the VMM must do; `None` if the access is passed on.
    #[inline]
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match self {
            Answer::Value(value) => Some(Outcome::Value(value)),
            Answer::Done => Some(Outcome::Done),
            Answer::Fault => Some(Outcome::Fault),
            Answer::Kernel => Some(Outcome::Kernel),
            Answer::Pass => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome() {
            Some(outcome) => outcome.fmt(f),
            None => f.write_str("pass"),
        }
    }
}

/// Why a call did not come back with an answer, and what the plugin said before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    /// The last error that the plugin logged in the call, if it is in no log yet: the
    /// text of a panic, most likely.
    pub(crate) said: String,
}

/// What ended a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    OutOfFuel {
        fuel: u64,
    },
    Stack,
    /// Any other trap, with the ceiling if an allocation hit it before.
    Trap {
        what: String,
        ceiling: Option<u64>,
    },
    /// The export is not there, though its manifest promised it.
    NoExport,
    /// No instance could take the place of one that failed.
    NotReplaced(String),
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Failure { cause, said: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, "; it logged: {said}"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::OutOfFuel { fuel } => write!(
                f,
                "it used up its fuel of {fuel}, which pays instructions, bytes that bulk \
                 instructions move, and host calls (raise `fuel` if the work is honest)"
            ),
            Cause::Stack => write!(f, "its stack overflowed (does it recurse without end?)"),
            Cause::Trap { what, ceiling: None } => write!(f, "it trapped: {what}"),
            Cause::Trap { what, ceiling: Some(bytes) } => write!(
                f,
                "it hit its memory ceiling of {} (raise `memory` if the need is honest) and trapped: {what}",
                ByteSize(*bytes).display().iec()
            ),
            Cause::NoExport => write!(f, "it has no export for this direction"),
            Cause::NotReplaced(why) => write!(f, "no new instance could be started: {why}"),
        }
    }
}

/// Why a plugin does not come to life.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InstanceError {
    #[error("it cannot be instantiated: {0}")]
    Instantiate(Failure),
    #[error("its `init` failed: {0}")]
    Init(Failure),
    #[error("it refuses its configuration: {0}")]
    Refused(String),
    #[error("its `save` failed: {0}")]
    Save(Failure),
    #[error("it does not save its state: {0}")]
    NotSaved(String),
    #[error("it has no export `restore`, but there is saved state for it")]
    NoRestore,
    #[error("its `restore` failed: {0}")]
    Restore(Failure),
    #[error("it refuses the saved state: {0}")]
    NotRestored(String),
}
