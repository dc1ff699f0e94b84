//! The difference between what two plugins did, as text.

use std::fmt;

use wasmsr_interface::{MsrAccess, MsrIndex, MsrOp, Outcome, VcpuId};

use crate::plugin::Answer;
use crate::record::{Bytes, HostCall};

/// What the plugins were called for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Occasion {
    /// Of a vCPU's instances, or of the VM's.
    Start(Option<VcpuId>),
    Access(MsrAccess, VcpuId),
    Timers(VcpuId),
    Reset(VcpuId),
}

/// What a difference is logged about; one for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Start,
    Read(MsrIndex),
    Write(MsrIndex),
    Timers,
    Reset,
}

impl Occasion {
    pub(super) fn subject(self) -> Subject {
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

/// Whether two plugins answered alike. All failures are alike.
pub(super) fn alike(one: &Result<Answer, Outcome>, other: &Result<Answer, Outcome>) -> bool {
    match (one, other) {
        (Err(_), Err(_)) => true,
        _ => one == other,
    }
}

/// A plugin's answer as text; `failed` if it has none.
pub(super) struct Shown<'a>(pub(super) &'a Result<Answer, Outcome>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(answer) => answer.fmt(f),
            Err(_) => f.write_str("failed"),
        }
    }
}

/// What a plugin changed, without the first few changes that another plugin made as
/// well; as text.
pub(super) struct Effects<'a> {
    pub(super) all: &'a [HostCall],
    pub(super) same: usize,
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
