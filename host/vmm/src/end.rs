//! How a run ends, and the sentence that says so.

use std::fmt;
use std::sync::Arc;

use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
};
use wasmsr_interface::VcpuId;

/// Why a run ended. Its text is a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnd {
    /// The guest wrote to the debug-exit port.
    DebugExit {
        /// Where it did.
        at: At,
        /// What it wrote.
        value: u32,
    },
    /// The guest powered itself off.
    PowerOff(At),
    /// The machine was reset.
    Reset(ResetBy),
    /// An exception while delivering a double fault (`KVM_EXIT_SHUTDOWN`).
    /// RIP is not known on AMD processors: KVM resets the vCPU there first.
    TripleFault(At),
    /// Every vCPU is halted with interrupts off, or was never started.
    HaltedForever(At),
    /// KVM cannot go on (`KVM_EXIT_INTERNAL_ERROR`).
    InternalError(Box<InternalErrorReport>),
    /// The processor refuses to enter the guest (`KVM_EXIT_FAIL_ENTRY`).
    FailEntry {
        /// Where it should have entered.
        at: At,
        /// The hardware's own code.
        reason: u64,
        /// The host CPU that refused.
        cpu: u32,
    },
    /// A plugin or the profile's policy ended the run.
    Stopped {
        /// Where the guest met it.
        at: At,
        /// The reason given.
        text: Arc<str>,
    },
    /// A signal reached wasmsr.
    Signal {
        /// Its number.
        number: i32,
        /// Where the first vCPU was then.
        at: Option<At>,
    },
    /// The console's escape sequence was typed.
    Quit {
        /// Where the first vCPU was then.
        at: Option<At>,
    },
    /// [`Control::stop`](crate::Control::stop) was called.
    StopRequested {
        /// Where the first vCPU was then.
        at: Option<At>,
    },
    /// The host failed, or KVM did something that a VM like this never meets.
    HostError(String),
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::DebugExit { at, value } => {
                write!(f, "the guest ended with {value:#x} at its debug-exit port ({at})")
            }
            RunEnd::PowerOff(at) => write!(f, "the guest powered off ({at})"),
            RunEnd::Reset(ResetBy::Guest(at)) => write!(f, "the guest reset the machine ({at})"),
            RunEnd::Reset(ResetBy::Operator(at)) => {
                f.write_str("reset by `wasmsr reset`")?;
                write_place(f, *at)
            }
            RunEnd::TripleFault(at) => {
                write!(f, "triple fault ({at}, KVM_EXIT_SHUTDOWN)")?;
                match at.rip {
                    Some(_) => Ok(()),
                    None => f.write_str("; on AMD processors KVM forgets where it was"),
                }
            }
            RunEnd::HaltedForever(at) => write!(
                f,
                "every vCPU is halted for ever, with interrupts off or never started ({at})"
            ),
            RunEnd::InternalError(report) => report.fmt(f),
            RunEnd::FailEntry { at, reason, cpu } => write!(
                f,
                "the processor refuses to enter the guest ({at}, KVM_EXIT_FAIL_ENTRY, hardware \
                 reason {reason:#x} on host CPU {cpu})"
            ),
            RunEnd::Stopped { at, text } => write!(f, "stopped: {text} ({at})"),
            RunEnd::Signal { number, at } => {
                match *number {
                    libc::SIGINT => f.write_str("interrupted by SIGINT")?,
                    libc::SIGTERM => f.write_str("terminated by SIGTERM")?,
                    number => write!(f, "ended by signal {number}")?,
                }
                write_place(f, *at)
            }
            RunEnd::Quit { at } => {
                f.write_str("quit from the console")?;
                write_place(f, *at)
            }
            RunEnd::StopRequested { at } => {
                f.write_str("stopped by `wasmsr stop`")?;
                write_place(f, *at)
            }
            RunEnd::HostError(what) => write!(f, "host error: {what}"),
        }
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, at: Option<At>) -> fmt::Result {
    at.map_or(Ok(()), |at| write!(f, " ({at})"))
}

/// What reset the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetBy {
    /// The guest itself, here.
    Guest(At),
    /// [`Control::reset`](crate::Control::reset); where the first vCPU was then.
    Operator(Option<At>),
}

/// A place in the guest's execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// The vCPU.
    pub vcpu: VcpuId,
    /// Its RIP, if KVM could tell.
    pub rip: Option<u64>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rip {
            Some(rip) => write!(f, "{} at RIP {rip:#x}", self.vcpu),
            None => write!(f, "{} at an unknown RIP", self.vcpu),
        }
    }
}

/// Everything about a KVM internal error that helps to understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalErrorReport {
    /// Where it happened.
    pub at: At,
    /// `KVM_INTERNAL_ERROR_*`
    pub suberror: u32,
    /// What KVM adds to it; its meaning depends on `suberror`.
    pub data: Vec<u64>,
    /// The bytes at RIP, as far as they could be read.
    pub instruction: Vec<u8>,
    /// Names and values.
    pub registers: Vec<(&'static str, u64)>,
    /// Whether this KVM interprets ring-0 code.
    pub interprets_ring0: bool,
}

impl InternalErrorReport {
    fn name(&self) -> &'static str {
        match self.suberror {
            KVM_INTERNAL_ERROR_EMULATION => "emulation failure",
            KVM_INTERNAL_ERROR_SIMUL_EX => "simultaneous exceptions",
            KVM_INTERNAL_ERROR_DELIVERY_EV => "exit while delivering an event",
            KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "unexpected exit reason",
            _ => "unknown",
        }
    }
}

impl fmt::Display for InternalErrorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "KVM internal error: {} (suberror {}, {}, KVM_EXIT_INTERNAL_ERROR)",
            self.name(),
            self.suberror,
            self.at
        )?;
        if !self.instruction.is_empty() {
            f.write_str("; instruction")?;
            self.instruction.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        }
        if !self.data.is_empty() {
            f.write_str("; data")?;
            self.data.iter().try_for_each(|word| write!(f, " {word:#x}"))?;
        }
        if !self.registers.is_empty() {
            f.write_str("; registers")?;
            self.registers.iter().try_for_each(|(name, value)| write!(f, " {name}={value:#x}"))?;
        }
        if self.interprets_ring0 && self.suberror == KVM_INTERNAL_ERROR_EMULATION {
            f.write_str(
                "; the KVM of this machine (kvm_pvm) interprets ring-0 code and cannot run this \
                 guest: use a machine with hardware virtualisation, or `cargo xtask nested`",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(interprets_ring0: bool) -> RunEnd {
        RunEnd::InternalError(Box::new(InternalErrorReport {
            at: At { vcpu: VcpuId(1), rip: Some(0x10_0000) },
            suberror: KVM_INTERNAL_ERROR_EMULATION,
            data: vec![1, 0xff],
            instruction: vec![0x0f, 0xc7, 0x0f],
            registers: vec![("RSP", 0x8000), ("CR0", 0x8000_0011)],
            interprets_ring0,
        }))
    }

    #[test]
    fn an_internal_error_tells_everything_on_one_line() {
        assert_eq!(
            report(false).to_string(),
            "KVM internal error: emulation failure (suberror 1, vCPU 1 at RIP 0x100000, \
             KVM_EXIT_INTERNAL_ERROR); instruction 0f c7 0f; data 0x1 0xff; registers RSP=0x8000 \
             CR0=0x80000011"
        );
    }

    #[test]
    fn a_ring0_interpreter_is_named() {
        let text = report(true).to_string();
        assert!(text.contains("interprets ring-0 code") && text.contains("nested"), "{text}");
    }

    #[test]
    fn an_end_that_an_operator_asked_for_says_so() {
        let at = Some(At { vcpu: VcpuId(0), rip: Some(0x1234) });
        let stopped = RunEnd::StopRequested { at }.to_string();
        assert_eq!(stopped, "stopped by `wasmsr stop` (vCPU 0 at RIP 0x1234)");
        let reset = RunEnd::Reset(ResetBy::Operator(None)).to_string();
        assert_eq!(reset, "reset by `wasmsr reset`");
    }

    #[test]
    fn an_end_names_vcpu_and_rip() {
        let at = At { vcpu: VcpuId(0), rip: Some(0x1234) };
        assert_eq!(
            RunEnd::TripleFault(at).to_string(),
            "triple fault (vCPU 0 at RIP 0x1234, KVM_EXIT_SHUTDOWN)"
        );
    }
}
