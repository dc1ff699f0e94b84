//! The one place that writes answers into an exit; KVM acts on them at the
//! next entry.

use std::ops::ControlFlow;
use std::sync::Arc;

use kvm_bindings::kvm_run;
use wasmsr_interface::{MsrAccess, MsrOp, Outcome};

use crate::kvm_msrs::KernelMsrs;

/// Answers the MSR exit that `run` holds. Breaks with the text of
/// [`Outcome::Stop`].
pub(crate) fn outcome(
    outcome: Outcome,
    access: MsrAccess,
    kernel: &impl KernelMsrs,
    run: &mut kvm_run,
) -> ControlFlow<Arc<str>> {
    let value = match outcome {
        Outcome::Value(value) => Some(value),
        // KVM does not read a write's data back.
        Outcome::Done => Some(0),
        Outcome::Fault => None,
        Outcome::Kernel => match access.op {
            MsrOp::Read => kernel.read(access.index),
            MsrOp::Write(value) => kernel.write(access.index, value).then_some(value),
        },
        Outcome::Stop(text) => return ControlFlow::Break(text),
    };
    let msr = &mut run.__bindgen_anon_1;
    match value {
        Some(value) => {
            msr.msr.error = 0;
            msr.msr.data = value;
        }
        None => msr.msr.error = 1,
    }
    ControlFlow::Continue(())
}

/// Answers the MMIO read that `run` holds like a bus with nobody on it.
pub(crate) fn all_ones(run: &mut kvm_run) {
    run.__bindgen_anon_1.mmio.data = [0xff; 8];
}

#[cfg(test)]
#[expect(unsafe_code, reason = "looks into the union of a synthetic exit")]
mod tests {
    use std::cell::Cell;

    use wasmsr_interface::{MsrIndex, Reason};

    use super::*;

    /// Knows MSR 0x10 alone, with values below 100.
    struct Kernel(Cell<u64>);

    impl KernelMsrs for Kernel {
        fn read(&self, index: MsrIndex) -> Option<u64> {
            (index.0 == 0x10).then(|| self.0.get())
        }

        fn write(&self, index: MsrIndex, value: u64) -> bool {
            let known = index.0 == 0x10 && value < 100;
            if known {
                self.0.set(value);
            }
            known
        }
    }

    /// The exit's (error, data) afterwards, and the kernel's value.
    #[track_caller]
    fn check(given: Outcome, index: u32, op: MsrOp, expected: (u8, u64), kernel_value: u64) {
        let kernel = Kernel(Cell::new(42));
        let access = MsrAccess { index: MsrIndex(index), op, reason: Reason::Filter };
        let mut run = kvm_run::default();
        assert_eq!(outcome(given, access, &kernel, &mut run), ControlFlow::Continue(()));
        // SAFETY: plain integers, zero or written above.
        let msr = unsafe { run.__bindgen_anon_1.msr };
        assert_eq!((msr.error, msr.data), expected);
        assert_eq!(kernel.0.get(), kernel_value);
    }

    #[test]
    fn reads_carry_their_value() {
        check(Outcome::Value(u64::MAX), 0x10a, MsrOp::Read, (0, u64::MAX), 42);
    }

    #[test]
    fn a_fault_is_an_error_without_data() {
        check(Outcome::Fault, 0x10a, MsrOp::Read, (1, 0), 42);
        check(Outcome::Fault, 0x10a, MsrOp::Write(7), (1, 0), 42);
    }

    #[test]
    fn the_kernel_answers_for_itself() {
        check(Outcome::Kernel, 0x10, MsrOp::Read, (0, 42), 42);
        check(Outcome::Kernel, 0x10, MsrOp::Write(7), (0, 7), 7);
    }

    #[test]
    fn what_the_kernel_refuses_faults() {
        check(Outcome::Kernel, 0x11, MsrOp::Read, (1, 0), 42);
        check(Outcome::Kernel, 0x10, MsrOp::Write(100), (1, 0), 42);
    }

    #[test]
    fn stop_leaves_the_exit_alone() {
        let access = MsrAccess { index: MsrIndex(1), op: MsrOp::Read, reason: Reason::Unknown };
        let mut run = kvm_run::default();
        let kernel = Kernel(Cell::new(0));
        let flow = outcome(Outcome::Stop("why".into()), access, &kernel, &mut run);
        assert_eq!(flow, ControlFlow::Break("why".into()));
    }
}
