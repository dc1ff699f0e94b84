//! The registers of a vCPU, for lines about its accesses.
#![expect(unsafe_code, reason = "an ioctl")]

use std::os::fd::AsRawFd;

use crate::ioctl;
use crate::uapi::{KVM_GET_REGS, Regs};

/// The address of the instruction at which this vCPU is. KVM has not stepped over that of
/// an MSR exit yet. `None` if KVM does not tell.
pub(crate) fn rip(vcpu: &impl AsRawFd) -> Option<u64> {
    let mut registers = Regs::default();
    // SAFETY: the kernel writes one `struct kvm_regs`.
    let got = unsafe { ioctl::call(vcpu, KVM_GET_REGS, &raw mut registers) };
    got.is_ok().then_some(registers.rip)
}
