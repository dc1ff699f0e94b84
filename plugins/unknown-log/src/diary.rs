//! The log: one line for each MSR and direction, whatever a guest does.

use alloc::collections::BTreeSet;
use core::fmt;

use wasmsr_sdk::{Access, MsrIndex, Otherwise, Reason, log, time};

use crate::rules::Taken;
use crate::stored;

/// Most MSRs and directions that are logged; a guest that uses more only probes.
pub(crate) const MOST: usize = 256;

/// Lines at once and per second after that, fewer than the host accepts: lines
/// that the host drops would never be repeated.
const BURST: u64 = 16;
const PER_SECOND: u64 = 4;

const NS_PER_LINE: u64 = 1_000_000_000 / PER_SECOND;

/// What decided an access.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// The rule at this place.
    Rule(usize),
    Learning,
    /// No rule matches.
    NoRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Read,
    Write,
}

/// The lines that were logged.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    said: BTreeSet<(MsrIndex, Direction)>,
    /// The time at which the rate allows as many lines as were written.
    paid_ns: u64,
    /// Whether the loss of values was logged.
    said_full: bool,
}

impl Diary {
    /// Logs a read and its answer, unless it was logged before.
    pub(crate) fn read(&mut self, access: Access, answer: Result<u64, Otherwise>, by: By) {
        if !self.admit(access.index, Direction::Read) {
            return;
        }
        let (msr, access) = (access.index.described(), Circumstances(access));
        match answer {
            Ok(value) => log::info!("read of {msr} {access}: {value:#x}, {by}"),
            Err(otherwise) => log::info!("read of {msr} {access}: {}, {by}", word(otherwise)),
        }
    }

    /// Logs a write and its result, unless it was logged before.
    pub(crate) fn write(
        &mut self,
        access: Access,
        value: u64,
        answer: Result<Taken, Otherwise>,
        by: By,
    ) {
        if answer == Ok(Taken::NoRoom) && !self.said_full {
            self.said_full = true;
            log::warn!("all {} places for values are taken: further ones are lost", stored::MOST);
        }
        if !self.admit(access.index, Direction::Write) {
            return;
        }
        let (msr, access) = (access.index.described(), Circumstances(access));
        let answer = match answer {
            Ok(Taken::Stored) => "stored",
            Ok(Taken::Dropped) => "dropped",
            Ok(Taken::NoRoom) => "no room to store it",
            Err(otherwise) => word(otherwise),
        };
        log::info!("write of {value:#x} to {msr} {access}: {answer}, {by}");
    }

    /// Whether a line may be logged now. A line that is held back is logged at
    /// the next access.
    fn admit(&mut self, msr: MsrIndex, direction: Direction) -> bool {
        if self.said.len() >= MOST || self.said.contains(&(msr, direction)) {
            return false;
        }
        let now = time::monotonic_ns();
        let due = self.paid_ns.max(now).saturating_add(NS_PER_LINE);
        if due.saturating_sub(now) > BURST * NS_PER_LINE {
            return false;
        }
        self.paid_ns = due;
        self.said.insert((msr, direction));
        if self.said.len() == MOST {
            log::info!("{MOST} accesses were logged; others are answered without a line");
        }
        true
    }
}

fn word(otherwise: Otherwise) -> &'static str {
    match otherwise {
        Otherwise::Fault => "fault",
        _ => "pass",
    }
}

struct Circumstances(Access);

impl fmt::Display for Circumstances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.0.reason {
            Reason::Invalid => "invalid",
            _ => "unknown",
        };
        write!(f, "(reason {reason}, {})", self.0.vcpu)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Rule(place) => write!(f, "by rules[{place}]"),
            By::Learning => f.write_str("by learning"),
            By::NoRule => f.write_str("no rule is for it"),
        }
    }
}
