//! What the VMM must do with an access, and the words for it.

use std::fmt;
use std::sync::Arc;

use crate::access::MsrOp;

/// What the VMM must do with an access.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Complete a read: the value becomes EDX:EAX.
    Value(u64),
    /// Complete a write.
    Done,
    /// Inject #GP(0); RIP does not advance and no register changes.
    Fault,
    /// Give KVM's own answer for this vCPU, by `KVM_GET_MSRS` or `KVM_SET_MSRS`. What
    /// KVM refuses becomes #GP(0).
    Kernel,
    /// End the run; the instruction is not completed. The text says why.
    Stop(Arc<str>),
}

/// An [`Outcome`] without its value and text. Its words are the ones that tables,
/// JSON, recordings and pages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum OutcomeKind {
    /// `value`: a read was completed with a value.
    Value,
    /// `ok`: a write was completed.
    #[cfg_attr(feature = "serde", serde(rename = "ok"))]
    Done,
    /// `fault`: #GP(0) in the guest.
    Fault,
    /// `kernel`: KVM's own answer.
    Kernel,
    /// `stop`: the run ended.
    Stop,
}

impl Outcome {
    /// The access is ignored: a read gives 0, a write is dropped.
    pub fn ignored(op: MsrOp) -> Self {
        match op {
            MsrOp::Read => Outcome::Value(0),
            MsrOp::Write(_) => Outcome::Done,
        }
    }

    /// The outcome without its value and text.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Outcome::Value(_) => OutcomeKind::Value,
            Outcome::Done => OutcomeKind::Done,
            Outcome::Fault => OutcomeKind::Fault,
            Outcome::Kernel => OutcomeKind::Kernel,
            Outcome::Stop(_) => OutcomeKind::Stop,
        }
    }
}

impl OutcomeKind {
    /// All of them.
    pub const ALL: [OutcomeKind; 5] = [
        OutcomeKind::Value,
        OutcomeKind::Done,
        OutcomeKind::Fault,
        OutcomeKind::Kernel,
        OutcomeKind::Stop,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            OutcomeKind::Value => "value",
            OutcomeKind::Done => "ok",
            OutcomeKind::Fault => "fault",
            OutcomeKind::Kernel => "kernel",
            OutcomeKind::Stop => "stop",
        }
    }
}

/// The word for the outcome, and for a read its value in hex.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Value(value) => write!(f, "{value:#x}"),
            _ => self.kind().fmt(f),
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_in_hex_and_everything_else_as_its_word() {
        let shown = [
            Outcome::Value(0x2b),
            Outcome::Done,
            Outcome::Fault,
            Outcome::Kernel,
            Outcome::Stop("why".into()),
        ]
        .map(|outcome| outcome.to_string());
        assert_eq!(shown, ["0x2b", "ok", "fault", "kernel", "stop"]);
    }
}
