//! Answers beside each other, for people.

use std::fmt;

use wasmsr_engine::record::{Access, Ended, HostCall, Op, Wake};

/// What the guest did.
pub(crate) struct Deed<'a>(pub(crate) &'a Access);

impl fmt::Display for Deed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.op, self.0.value) {
            (Op::Write, Some(value)) => write!(f, "write {:#x}", value.0),
            (Op::Write, None) => f.write_str("write"),
            (Op::Read, _) => f.write_str("read"),
        }
    }
}

/// An answer beside another, for people.
pub(crate) struct Answer<'a>(pub(crate) &'a Access, pub(crate) &'a Access);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer(access, other) = self;
        match (access.outcome, access.op, access.value) {
            (Ended::Handled, Op::Read, Some(value)) => write!(f, "{:#x}", value.0)?,
            (Ended::Handled, ..) => f.write_str("done")?,
            (Ended::Fault, ..) => f.write_str("#GP")?,
            (Ended::Kernel, ..) => f.write_str("left to KVM")?,
            (Ended::Stop, ..) => f.write_str("stop")?,
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

/// What plugins changed when their timers were due.
pub(crate) struct Timers<'a>(pub(crate) &'a Wake);

impl fmt::Display for Timers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Changes(&self.0.effects().collect::<Vec<_>>()).fmt(f)
    }
}

struct Changes<'a>(&'a [&'a HostCall]);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(HostCall::GuestWrite { gpa, data, .. }) => {
                write!(f, "{} bytes to GPA {:#x}", data.0.len(), gpa.0)?;
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
