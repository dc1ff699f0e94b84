//! What a host call costs, so that host calls cannot outlast the budget of
//! plain instructions.

use std::fmt;

/// What a host call costs beside the instruction that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fuel {
    /// At each call.
    pub call: u64,
    /// Which bytes cost 1 each, as it reads behind "for each byte"; `None` if
    /// none do.
    pub bytes: Option<&'static str>,
}

/// For a call that gives what is at hand.
pub(super) const NONE: Fuel = Fuel { call: 0, bytes: None };

/// For a call that stays in the process.
pub(super) const CHEAP: Fuel = Fuel { call: 20, bytes: None };

/// For one that also touches the plugin's memory.
pub(super) const EACH_BYTE: Fuel = Fuel { bytes: Some(""), ..CHEAP };

/// For one that touches only as much as there is.
pub(super) const BYTES_COPIED: Fuel = Fuel { bytes: Some(" copied"), ..CHEAP };

/// For a call that asks the kernel.
pub(super) const SYSTEM_CALL: Fuel = Fuel { call: 1_000, bytes: None };

/// For a read of KVM as the guest: the first one of an MSR also executes an instruction.
pub(super) const AS_GUEST_READ: Fuel = Fuel { call: 3_000, bytes: None };

/// For a write to KVM as the guest: a dozen system calls, one of which executes the
/// instruction.
pub(super) const AS_GUEST_WRITE: Fuel = Fuel { call: 15_000, bytes: None };

/// For one that also opens and reads a file.
pub(super) const FILE: Fuel =
    Fuel { bytes: Some(" of the name and of `cap`, of that for at most 4096"), ..SYSTEM_CALL };

/// For a change of intercepts: the filter is packed anew, and the kernel may
/// need milliseconds to replace the old one.
pub(super) const REPACK: Fuel = Fuel { call: 50_000, bytes: None };

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fuel { call: 0, .. } => f.write_str("none"),
            Fuel { call, bytes: None } => write!(f, "{call}"),
            Fuel { call, bytes: Some(which) } => write!(f, "{call}, and 1 for each byte{which}"),
        }
    }
}
