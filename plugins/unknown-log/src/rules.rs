//! Rules: which accesses are answered how.

use alloc::boxed::Box;
use core::fmt;

use serde::Deserialize;
use wasmsr_sdk::{Access, Bits64, MsrRange, Otherwise, Reason};

use crate::stored::{Full, Slot, Stored};

/// The answers for some MSRs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) range: MsrRange,
    /// `None` for both.
    pub(crate) reason: Option<Unhandled>,
    pub(crate) read: Option<Read>,
    pub(crate) write: Option<Write>,
    /// The stored value at the start.
    pub(crate) value: Option<Bits64>,
    /// Whether all vCPUs share one value.
    #[serde(default)]
    pub(crate) shared: bool,
}

/// Why KVM does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unhandled {
    Unknown,
    Invalid,
}

/// The answer to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Read {
    Zero,
    Stored,
    Fault,
    #[default]
    Pass,
}

/// The answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Write {
    Store,
    Ignore,
    Fault,
    #[default]
    Pass,
}

/// The result of a write that was neither passed on nor a fault at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Stored,
    Dropped,
    /// There was no room to store it.
    NoRoom,
}

impl From<Result<(), Full>> for Taken {
    fn from(stored: Result<(), Full>) -> Self {
        match stored {
            Ok(()) => Taken::Stored,
            Err(Full) => Taken::NoRoom,
        }
    }
}

impl Rule {
    /// Whether the rule decides the access.
    fn is_for(&self, access: Access) -> bool {
        let reason = match self.reason {
            None => true,
            Some(Unhandled::Unknown) => access.reason == Reason::Unknown,
            Some(Unhandled::Invalid) => access.reason == Reason::Invalid,
        };
        reason && self.range.contains(access.index)
    }

    pub(crate) fn read(&self, access: Access, stored: &Stored) -> Result<u64, Otherwise> {
        match self.read.unwrap_or_default() {
            Read::Zero => Ok(0),
            Read::Stored => Ok(stored.read(self.slot(access), self.initial())),
            Read::Fault => Err(Otherwise::Fault),
            Read::Pass => Err(Otherwise::Pass),
        }
    }

    pub(crate) fn write(
        &self,
        access: Access,
        value: u64,
        stored: &mut Stored,
    ) -> Result<Taken, Otherwise> {
        match self.write.unwrap_or_default() {
            Write::Store => Ok(stored.write(self.slot(access), value, self.initial()).into()),
            Write::Ignore => Ok(Taken::Dropped),
            Write::Fault => Err(Otherwise::Fault),
            Write::Pass => Err(Otherwise::Pass),
        }
    }

    fn stores_in(&self, slot: Slot) -> bool {
        self.write == Some(Write::Store)
            && self.range.contains(slot.msr)
            && self.shared == slot.vcpu.is_none()
    }

    fn slot(&self, access: Access) -> Slot {
        if self.shared { Slot::shared(access) } else { Slot::own(access) }
    }

    fn initial(&self) -> u64 {
        self.value.unwrap_or_default().0
    }
}

/// The rule as an entry of the configuration, TOML.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{ range = \"{}\"", self.range)?;
        if let Some(reason) = self.reason {
            let reason = match reason {
                Unhandled::Unknown => "unknown",
                Unhandled::Invalid => "invalid",
            };
            write!(f, ", reason = \"{reason}\"")?;
        }
        if let Some(read) = self.read {
            let read = match read {
                Read::Zero => "zero",
                Read::Stored => "stored",
                Read::Fault => "fault",
                Read::Pass => "pass",
            };
            write!(f, ", read = \"{read}\"")?;
        }
        if let Some(write) = self.write {
            let write = match write {
                Write::Store => "store",
                Write::Ignore => "ignore",
                Write::Fault => "fault",
                Write::Pass => "pass",
            };
            write!(f, ", write = \"{write}\"")?;
        }
        if let Some(value) = self.value {
            write!(f, ", value = \"{value}\"")?;
        }
        if self.shared {
            f.write_str(", shared = true")?;
        }
        f.write_str(" }")
    }
}

/// All rules, in order.
#[derive(Debug)]
pub(crate) struct Rules(pub(crate) Box<[Rule]>);

impl Rules {
    /// The first rule for the access, and its place.
    pub(crate) fn find(&self, access: Access) -> Option<(usize, &Rule)> {
        self.0.iter().enumerate().find(|(_, rule)| rule.is_for(access))
    }

    /// The value of a place at the start; `None` if no rule stores in it.
    pub(crate) fn initial(&self, slot: Slot) -> Option<u64> {
        self.0.iter().find(|rule| rule.stores_in(slot)).map(Rule::initial)
    }
}
