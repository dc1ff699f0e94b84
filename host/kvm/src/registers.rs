//! Registers of a vCPU that are no MSRs.
#![expect(unsafe_code, reason = "ioctls")]

use std::io;
use std::os::fd::AsRawFd;

use crate::ioctl;
use crate::uapi::{
    KVM_GET_LAPIC, KVM_GET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, LapicState, Registers,
    SpecialRegisters,
};

/// The address of the instruction at which this vCPU is. KVM has not stepped over that of
/// an MSR exit yet. `None` if KVM does not tell.
pub(crate) fn rip(vcpu: &impl AsRawFd) -> Option<u64> {
    let mut registers = Registers::default();
    // SAFETY: the kernel writes one `struct kvm_regs`.
    let got = unsafe { ioctl::call(vcpu, KVM_GET_REGS, &raw mut registers) };
    got.is_ok().then_some(registers.rip)
}

/// Segments, descriptor tables and control registers of a vCPU.
pub(crate) fn special(vcpu: &impl AsRawFd) -> io::Result<SpecialRegisters> {
    let mut registers = SpecialRegisters::default();
    // SAFETY: the kernel writes one `struct kvm_sregs`.
    unsafe { ioctl::call(vcpu, KVM_GET_SREGS, &raw mut registers) }?;
    Ok(registers)
}

/// Sets what [`special`] gets.
pub(crate) fn set_special(vcpu: &impl AsRawFd, mut registers: SpecialRegisters) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct kvm_sregs`.
    unsafe { ioctl::call(vcpu, KVM_SET_SREGS, &raw mut registers) }?;
    Ok(())
}

/// Whether a vCPU's guest pages at present (CR0.PG); also if that cannot be told.
pub(crate) fn pages(vcpu: &impl AsRawFd) -> bool {
    const PG: u64 = 1 << 31;
    special(vcpu).map_or(true, |registers| registers.cr0 & PG != 0)
}

/// Whether KVM has the local APIC of a vCPU.
pub(crate) fn has_local_apic(vcpu: &impl AsRawFd) -> bool {
    let mut state = LapicState { regs: [0; 1024] };
    // SAFETY: the kernel writes one `struct kvm_lapic_state`.
    unsafe { ioctl::call(vcpu, KVM_GET_LAPIC, &raw mut state) }.is_ok()
}
