//! Rules: which accesses are answered how.

use alloc::boxed::Box;
use core::fmt;

use serde::Deserialize;
use wasmsr_sdk::{Access, Bits64, MsrRange, Otherwise, Reason};

use crate::lookup::Lookup;
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
pub(crate) struct Rules {
    rules: Box<[Rule]>,
    /// Which rule is for an access, by its reason.
    unknown: Lookup,
    invalid: Lookup,
    /// Which rule stores a value of a vCPU, and a shared one.
    own: Lookup,
    shared: Lookup,
}

impl Rules {
    pub(crate) fn new(rules: Box<[Rule]>) -> Self {
        let lookup = |chosen: fn(&Rule) -> bool| Lookup::of(&rules, chosen);
        Rules {
            unknown: lookup(|rule| rule.reason != Some(Unhandled::Invalid)),
            invalid: lookup(|rule| rule.reason != Some(Unhandled::Unknown)),
            own: lookup(|rule| rule.write == Some(Write::Store) && !rule.shared),
            shared: lookup(|rule| rule.write == Some(Write::Store) && rule.shared),
            rules,
        }
    }

    /// The first rule for the access, and its place.
    pub(crate) fn find(&self, access: Access) -> Option<(usize, &Rule)> {
        let lookup = match access.reason {
            Reason::Invalid => &self.invalid,
            _ => &self.unknown,
        };
        let place = lookup.find(access.index)?;
        Some((place, self.rules.get(place)?))
    }

    /// The value of a place at the start; `None` if no rule stores in it.
    pub(crate) fn initial(&self, slot: Slot) -> Option<u64> {
        let lookup = if slot.vcpu.is_some() { &self.own } else { &self.shared };
        self.rules.get(lookup.find(slot.msr)?).map(Rule::initial)
    }

    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}
