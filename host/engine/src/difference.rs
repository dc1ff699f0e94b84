//! What two plugins did, beside each other, for people.

use std::fmt;

use wasmsr_interface::{MsrAccess, MsrIndex, MsrOp, VcpuId};

use crate::record::{Bytes, HostCall};
use crate::slot::Verdict;

/// What the plugins were called for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Occasion {
    /// Of a vCPU's instances, or of the VM's.
    Start(Option<VcpuId>),
    Access(MsrAccess, VcpuId),
    Timers(VcpuId),
    Reset(VcpuId),
}

/// What is said once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Start,
    Read(MsrIndex),
    Write(MsrIndex),
    Timers,
    Reset,
}

impl Occasion {
    pub(crate) fn subject(self) -> Subject {
        match self {
            Occasion::Start(_) => Subject::Start,
            Occasion::Access(MsrAccess { index, op: MsrOp::Read, .. }, _) => Subject::Read(index),
            Occasion::Access(MsrAccess { index, .. }, _) => Subject::Write(index),
            Occasion::Timers(_) => Subject::Timers,
            Occasion::Reset(_) => Subject::Reset,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Occasion::Start(None) => f.write_str("start"),
            Occasion::Start(Some(vcpu)) => write!(f, "start on {vcpu}"),
            Occasion::Timers(vcpu) => write!(f, "timers on {vcpu}"),
            Occasion::Reset(vcpu) => write!(f, "reset on {vcpu}"),
            Occasion::Access(MsrAccess { index, op: MsrOp::Read, .. }, vcpu) => {
                write!(f, "read of {} on {vcpu}", index.described())
            }
            Occasion::Access(MsrAccess { index, op: MsrOp::Write(value), .. }, vcpu) => {
                write!(f, "write of {value:#x} to {} on {vcpu}", index.described())
            }
        }
    }
}

/// Whether two plugins came to the same. All failures are alike.
pub(crate) fn alike(one: &Verdict, other: &Verdict) -> bool {
    match (one, other) {
        (Verdict::Failed(_), Verdict::Failed(_)) => true,
        _ => one == other,
    }
}

/// A verdict for people.
pub(crate) struct Shown<'a>(pub(crate) &'a Verdict);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Verdict::Passed => f.write_str("pass"),
            Verdict::Failed(_) => f.write_str("failed"),
            Verdict::Answered(outcome) => outcome.fmt(f),
        }
    }
}

/// What a plugin changed beyond the first few that another changed as well, for
/// people.
pub(crate) struct Effects<'a> {
    pub(crate) all: &'a [HostCall],
    pub(crate) same: usize,
}

impl fmt::Display for Effects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let rest = self.all.get(self.same..).unwrap_or_default();
        if rest.is_empty() {
            return f.write_str(if self.same == 0 { "changed nothing" } else { "nothing more" });
        }
        for (position, effect) in rest.iter().take(4).enumerate() {
            f.write_str(if position == 0 { "" } else { ", " })?;
            match effect {
                HostCall::GuestWrite { gpa, data, .. } => {
                    let more = if data.0.len() > SHOWN { "…" } else { "" };
                    let start = Bytes(data.0.iter().take(SHOWN).copied().collect());
                    write!(f, "wrote {start}{more} to GPA {:#x}", gpa.0)?;
                }
                HostCall::KvmWrmsr { msr, value, .. } => {
                    write!(f, "set KVM's {} to {:#x}", msr.described(), value.0)?;
                }
                HostCall::SetExits { switch, refused } => {
                    match switch {
                        Some(switch) => write!(f, "{switch}")?,
                        None => f.write_str("changed what exits")?,
                    }
                    f.write_str(if refused.is_some() { " (refused)" } else { "" })?;
                }
                HostCall::WakeAt { at, .. } => write!(f, "set a timer to {} ns", at.0)?,
                _ => {}
            }
        }
        match rest.len() {
            0..=4 => Ok(()),
            more => write!(f, " and {} more", more - 4),
        }
    }
}
