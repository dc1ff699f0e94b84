//! MSR accesses that leave the kernel: what must be enabled, and what keeps them in.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;

use crate::ioctl;
use crate::refused::Refused;
use crate::uapi::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL,
    KVM_MSR_EXIT_REASON_UNKNOWN,
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
    ioctl::enable_cap(vm, KVM_CAP_X86_USER_SPACE_MSR, reasons.into())
        .map_err(|error| Refused { step: "let MSR accesses exit", error })
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
