//! What a vCPU leaves for the recorder, and the lines that come of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmsr_interface::{MsrAccess, MsrOp, Outcome, OutcomeKind, VcpuId};

use super::call_log::CallLog;
use super::hex::Hex;
use super::line::{AccessLine, Op, WakeLine};

/// An access that was answered.
#[derive(Debug)]
pub(crate) struct AccessEvent {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) vcpu: VcpuId,
    /// Of the set that answered.
    pub(crate) generation: u64,
    pub(crate) access: MsrAccess,
    /// Where the instruction is in the guest.
    pub(crate) rip: Option<u64>,
    pub(crate) outcome: Outcome,
    /// KVM's value, if KVM answered the access; what was written, if it took a write.
    pub(crate) kernel: Option<u64>,
    pub(crate) plugin: Option<Arc<str>>,
    pub(crate) failed: bool,
    pub(crate) calls: CallLog,
}

/// Timers that were served.
#[derive(Debug)]
pub(crate) struct WakeEvent {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) vcpu: VcpuId,
    /// Of the set whose timers they were.
    pub(crate) generation: u64,
    /// The plugins whose timer failed.
    pub(crate) failed: Vec<Arc<str>>,
    pub(crate) calls: CallLog,
}

impl AccessEvent {
    /// The line of the access, `t` nanoseconds after the recording began.
    pub(super) fn into_line(self, t: u64) -> AccessLine {
        let MsrAccess { index, op, reason } = self.access;
        let outcome = self.outcome.kind();
        let read = match self.outcome {
            Outcome::Value(value) => Some(value),
            Outcome::Kernel => self.kernel,
            Outcome::Done | Outcome::Fault | Outcome::Stop(_) => None,
        };
        let is_write = matches!(op, MsrOp::Write(_));
        let refused = is_write && outcome == OutcomeKind::Kernel && self.kernel.is_none();
        let (op, value) = match op {
            MsrOp::Read => (Op::Read, read),
            MsrOp::Write(value) => (Op::Write, Some(value)),
        };
        AccessLine {
            t,
            vcpu: self.vcpu.0,
            generation: self.generation,
            msr: index,
            name: index.name().map(str::to_owned),
            op,
            reason,
            rip: self.rip.map(Hex),
            value: value.map(Hex),
            outcome,
            refused,
            plugin: self.plugin.map(|name| name.to_string()),
            failed: self.failed,
            ns: nanos(self.took),
            cut: self.calls.cut,
            calls: self.calls.into_plugin_calls(),
        }
    }
}

impl WakeEvent {
    /// The line of the timers, `t` nanoseconds after the recording began.
    pub(super) fn into_line(self, t: u64) -> WakeLine {
        WakeLine {
            t,
            vcpu: self.vcpu.0,
            generation: self.generation,
            ns: nanos(self.took),
            failed: self.failed.iter().map(ToString::to_string).collect(),
            cut: self.calls.cut,
            calls: self.calls.into_plugin_calls(),
        }
    }
}

/// Nanoseconds, as a recording counts time.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
