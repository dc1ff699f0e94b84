//! The MSR access for which a vCPU has left the guest: decoded, answered, and completed
//! before anything is saved (KVM api section 5, `KVM_EXIT_X86_RDMSR`).
#![expect(unsafe_code, reason = "a vCPU's `struct kvm_run` has a type of its VMM's own")]

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use wasmsr_interface::{MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, Reason};

use crate::ioctl;
use crate::kvm_msrs::KernelMsrs;
use crate::uapi::{
    KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL,
    KVM_RUN, KvmRun,
};

/// What [`KvmRun::answer`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// The vCPU has exited for something else, and the exit is as it was.
    NotMsr,
    /// The access has its answer, which takes effect at the next `KVM_RUN`.
    Done,
    /// The run must end. The text says why; the access has no answer.
    Stop(Arc<str>),
}

/// What [`drain`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// No access is pending.
    Complete,
    /// Completing the last exit led to a further one, as where a load lies across two
    /// pages. It must be served as any other exit, and the vCPU then drained again.
    Exit,
}

impl KvmRun {
    /// The head of a vCPU's `struct kvm_run`, from the VMM's own type for it.
    ///
    /// # Safety
    /// `run` must be laid out as the kernel's `struct kvm_run`, and be that of a vCPU
    /// which is out of `KVM_RUN`.
    pub unsafe fn of<T>(run: &mut T) -> &mut KvmRun {
        const { assert!(size_of::<T>() >= size_of::<KvmRun>(), "no `struct kvm_run`") };
        // SAFETY: the caller vouches for the layout, of which `KvmRun` is the beginning,
        // made of integers only.
        unsafe { &mut *std::ptr::from_mut(run).cast() }
    }

    /// The MSR access for which the vCPU has exited; `None` after another exit.
    pub fn msr_access(&self) -> Option<MsrAccess> {
        let op = match self.exit_reason {
            KVM_EXIT_X86_RDMSR => MsrOp::Read,
            KVM_EXIT_X86_WRMSR => MsrOp::Write(self.msr.data),
            _ => return None,
        };
        let reason = match self.msr.reason {
            KVM_MSR_EXIT_REASON_INVAL => Reason::Invalid,
            KVM_MSR_EXIT_REASON_FILTER => Reason::Filter,
            _ => Reason::Unknown,
        };
        Some(MsrAccess { index: MsrIndex(self.msr.index), op, reason })
    }

    /// Answers `access`, for which the vCPU has just exited; `kernel` is KVM as the guest
    /// meets it, [`AsGuest`](crate::AsGuest). Breaks with the text of [`Outcome::Stop`], and
    /// leaves the access without an answer then.
    pub fn complete(
        &mut self,
        access: MsrAccess,
        outcome: Outcome,
        kernel: &impl KernelMsrs,
    ) -> ControlFlow<Arc<str>> {
        let value = match outcome {
            Outcome::Value(value) => Some(value),
            // KVM does not read a write's data back.
            Outcome::Done => Some(0),
            Outcome::Fault => None,
            // KVM has seen the guest's own instruction already, and refused it.
            Outcome::Kernel if access.reason != Reason::Filter => None,
            Outcome::Kernel => match access.op {
                MsrOp::Read => kernel.read(access.index),
                MsrOp::Write(value) => kernel.write(access.index, value).then_some(value),
            },
            Outcome::Stop(text) => return ControlFlow::Break(text),
        };
        match value {
            Some(value) => {
                self.msr.error = 0;
                self.msr.data = value;
            }
            None => self.msr.error = 1,
        }
        ControlFlow::Continue(())
    }

    /// Has `handler` answer the access for which the vCPU has exited, if it is one.
    pub fn answer(
        &mut self,
        handler: &mut (impl MsrHandler + ?Sized),
        kernel: &impl KernelMsrs,
    ) -> Served {
        let Some(access) = self.msr_access() else { return Served::NotMsr };
        match self.complete(access, handler.answer(access), kernel) {
            ControlFlow::Continue(()) => Served::Done,
            ControlFlow::Break(text) => Served::Stop(text),
        }
    }
}

/// Lets KVM complete the access that a vCPU has exited for, without going on in the guest:
/// an answer is in no state that can be saved until the next `KVM_RUN`. To be called
/// before a vCPU is saved or left for good, with every exit answered.
///
/// # Errors
/// Those of `KVM_RUN`, but for the interruption that is asked for here.
///
/// # Safety
/// `run` must be the `struct kvm_run` of `vcpu`, and no other thread may enter that vCPU.
pub unsafe fn drain<T>(vcpu: &impl AsRawFd, run: *mut T) -> io::Result<Drained> {
    let run: *mut KvmRun = run.cast();
    // SAFETY: the caller vouches for `run`. It is volatile, since the kernel reads it.
    unsafe { (&raw mut (*run).immediate_exit).write_volatile(1) };
    let entered = ioctl::call_without(vcpu, KVM_RUN);
    // SAFETY: as above.
    unsafe { (&raw mut (*run).immediate_exit).write_volatile(0) };
    match entered {
        Ok(_) => Ok(Drained::Exit),
        // By design; EAGAIN is a vCPU that has waited for its start.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
            Ok(Drained::Complete)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// As KVM leaves it at an exit.
    fn exited(exit_reason: u32, reason: u32, index: u32, data: u64) -> KvmRun {
        // SAFETY: it is made of integers only.
        let mut run: KvmRun = unsafe { std::mem::zeroed() };
        run.exit_reason = exit_reason;
        run.msr.reason = reason;
        run.msr.index = index;
        run.msr.data = data;
        run
    }

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

    struct Always(Outcome);

    impl MsrHandler for Always {
        fn answer(&mut self, _: MsrAccess) -> Outcome {
            self.0.clone()
        }
    }

    #[test]
    fn msr_accesses() {
        let access = |op, reason| Some(MsrAccess { index: MsrIndex(0x10a), op, reason });
        assert_eq!(
            exited(KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_FILTER, 0x10a, 7).msr_access(),
            access(MsrOp::Read, Reason::Filter)
        );
        assert_eq!(
            exited(KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL, 0x10a, u64::MAX).msr_access(),
            access(MsrOp::Write(u64::MAX), Reason::Invalid)
        );
    }

    #[test]
    fn another_exit_is_left_alone() {
        /// `KVM_EXIT_IO`
        const IO: u32 = 2;
        let mut run = exited(IO, 0, 0x10a, 7);
        let answered = run.answer(&mut Always(Outcome::Fault), &Kernel(Cell::new(0)));
        assert_eq!(answered, Served::NotMsr);
        assert_eq!((run.msr.error, run.msr.data), (0, 7));
    }

    /// The exit's (error, data) afterwards, and the kernel's value.
    #[track_caller]
    fn check(given: Outcome, index: u32, op: MsrOp, expected: (u8, u64), kernel_value: u64) {
        let kernel = Kernel(Cell::new(42));
        let (exit_reason, data) = match op {
            MsrOp::Read => (KVM_EXIT_X86_RDMSR, 0),
            MsrOp::Write(value) => (KVM_EXIT_X86_WRMSR, value),
        };
        let mut run = exited(exit_reason, KVM_MSR_EXIT_REASON_FILTER, index, data);
        assert_eq!(run.answer(&mut Always(given), &kernel), Served::Done);
        assert_eq!((run.msr.error, run.msr.data), expected);
        assert_eq!(kernel.0.get(), kernel_value);
    }

    #[test]
    fn reads_carry_their_value() {
        check(Outcome::Value(u64::MAX), 0x10a, MsrOp::Read, (0, u64::MAX), 42);
    }

    #[test]
    fn a_fault_is_an_error_and_changes_no_data() {
        check(Outcome::Fault, 0x10a, MsrOp::Read, (1, 0), 42);
        check(Outcome::Fault, 0x10a, MsrOp::Write(7), (1, 7), 42);
    }

    #[test]
    fn the_kernel_answers_for_itself() {
        check(Outcome::Kernel, 0x10, MsrOp::Read, (0, 42), 42);
        check(Outcome::Kernel, 0x10, MsrOp::Write(7), (0, 7), 7);
    }

    #[test]
    fn what_the_kernel_refuses_faults() {
        check(Outcome::Kernel, 0x11, MsrOp::Read, (1, 0), 42);
        check(Outcome::Kernel, 0x10, MsrOp::Write(100), (1, 100), 42);
    }

    #[test]
    fn stop_leaves_the_exit_alone() {
        let mut run = exited(KVM_EXIT_X86_RDMSR, 0, 1, 0);
        let stop = &mut Always(Outcome::Stop("why".into()));
        let answered = run.answer(stop, &Kernel(Cell::new(0)));
        assert_eq!(answered, Served::Stop("why".into()));
        assert_eq!((run.msr.error, run.msr.data), (0, 0));
    }

    #[test]
    fn only_a_vcpu_can_be_drained() {
        let mut run = exited(0, 0, 0, 0);
        let null = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: it is a `KvmRun`, and only a vCPU can be entered.
        let error = unsafe { drain(&null, &raw mut run) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        assert_eq!(run.immediate_exit, 0);
    }
}
