//! MSR accesses that leave the kernel: what must be enabled, and what keeps them in.
#![expect(unsafe_code, reason = "an ioctl")]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::ioctl;
use crate::refused::Refused;
use crate::uapi::{
    EnableCap, KVM_CAP_X86_USER_SPACE_MSR, KVM_ENABLE_CAP, KVM_MSR_EXIT_REASON_FILTER,
    KVM_MSR_EXIT_REASON_INVAL, KVM_MSR_EXIT_REASON_UNKNOWN,
};

/// Lets MSR accesses exit, for all three reasons: those that the filter denies, of MSRs
/// that KVM does not know, and with values that KVM refuses. Without it, each of them is
/// #GP in the guest. To be called before a filter is installed.
///
/// # Errors
/// [`Refused`] where the kernel has no `KVM_CAP_X86_USER_SPACE_MSR`; Linux has it since
/// 5.10.
pub fn enable_msr_exits(vm: &impl AsRawFd) -> Result<(), Refused> {
    let reasons =
        KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
    let mut cap = EnableCap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        flags: 0,
        args: [reasons.into(), 0, 0, 0],
        pad: [0; 64],
    };
    // SAFETY: the kernel reads one `struct kvm_enable_cap`.
    let enabled = unsafe { ioctl::call(vm, KVM_ENABLE_CAP, &raw mut cap) };
    match enabled {
        Ok(_) => Ok(()),
        Err(error) => Err(Refused { step: "let MSR accesses exit", error }),
    }
}

/// Whether `kvm.ignore_msrs` is set. The kernel then answers MSRs that KVM does not know
/// by itself: their accesses never exit.
///
/// # Errors
/// What keeps the module's parameter from being read.
pub fn ignores_unknown_msrs() -> io::Result<bool> {
    let value = fs::read_to_string("/sys/module/kvm/parameters/ignore_msrs")?;
    Ok(value.starts_with('Y'))
}
