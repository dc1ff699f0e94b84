//! The result of a line, recorded and replayed, for people.

use std::fmt;

use wasmsr_engine::record::{AccessLine, Bytes, HostCall, Line, Op};
use wasmsr_interface::OutcomeKind;

/// Whether a line differs: in the answer to an access, or in what plugins changed
/// (guest memory, KVM's MSRs, intercepts, timers).
pub(crate) fn differ(was: &Line, came: &Line) -> bool {
    match (was, came) {
        (Line::Access(was), Line::Access(came)) => !came.answered_as(was),
        (Line::Wake(was), Line::Wake(came)) => !came.changed_as(was),
        (Line::Start(was), Line::Start(came)) => !came.changed_as(was),
        (Line::Swap(was), Line::Swap(came)) => !came.changed_as(was),
        _ => false,
    }
}

/// What happened: an access, a timer, a start, a swap.
pub(crate) struct Deed<'a>(pub(crate) &'a Line);

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Line::Access(AccessLine { op: Op::Write, value: Some(value), .. }) => {
                write!(f, "write {:#x}", value.0)
            }
            Line::Access(AccessLine { op: Op::Write, .. }) => f.write_str("write"),
            Line::Access(_) => f.write_str("read"),
            Line::Wake(_) => f.write_str("timers"),
            Line::Start(_) => f.write_str("start"),
            Line::Swap(swap) => swap.cause.fmt(f),
            _ => Ok(()),
        }
    }
}

/// The result of a line; the second line is the one it is compared with.
pub(crate) struct Answer<'a>(pub(crate) &'a Line, pub(crate) &'a Line);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Line::Access(access), Line::Access(other)) => AccessAnswer(access, other).fmt(f),
            (Line::Wake(wake), _) => Changes(&wake.effects().collect::<Vec<_>>()).fmt(f),
            (Line::Start(start), _) => Changes(&start.effects().collect::<Vec<_>>()).fmt(f),
            (Line::Swap(swap), _) => Changes(&swap.effects().collect::<Vec<_>>()).fmt(f),
            _ => Ok(()),
        }
    }
}

struct AccessAnswer<'a>(&'a AccessLine, &'a AccessLine);

impl fmt::Display for AccessAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AccessAnswer(access, other) = self;
        match (access.outcome, access.value) {
            (OutcomeKind::Value, Some(value)) => write!(f, "{:#x}", value.0)?,
            (outcome, _) => outcome.fmt(f)?,
        }
        if access.failed {
            f.write_str(" (the plugin failed)")?;
        }
        if access.effects().eq(other.effects()) {
            return Ok(());
        }
        let both = access.effects().zip(other.effects());
        let same = both.take_while(|(one, other)| one == other).count();
        write!(f, ", {}", Changes(&access.effects().skip(same).collect::<Vec<_>>()))
    }
}

/// Bytes of a write that are shown.
const SHOWN: usize = 16;

struct Changes<'a>(&'a [&'a HostCall]);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(HostCall::GuestWrite { gpa, data, .. }) => {
                let start = Bytes(data.0.iter().take(SHOWN).copied().collect());
                let more = if data.0.len() > SHOWN { "…" } else { "" };
                write!(f, "{start}{more} to GPA {:#x}", gpa.0)?;
            }
            Some(HostCall::KvmWrmsr { msr, value, .. }) => {
                write!(f, "KVM's {msr} = {:#x}", value.0)?;
            }
            Some(HostCall::SetExits { switch: Some(switch), .. }) => write!(f, "{switch}")?,
            Some(HostCall::SetExits { switch: None, .. }) => f.write_str("changed what exits")?,
            Some(HostCall::WakeAt { at, .. }) => write!(f, "a timer at {} ns", at.0)?,
            _ => f.write_str("changed nothing")?,
        }
        match self.0.len() {
            0 | 1 => Ok(()),
            all => write!(f, " and {} more", all - 1),
        }
    }
}
