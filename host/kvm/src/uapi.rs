//! The kernel's structures and numbers that this crate uses (`linux/kvm.h`,
//! `asm/kvm.h`), written down anew so that a VMM's own version of kvm-bindings does
//! not matter. The tests hold them against that crate.

use std::ffi::c_void;

use libc::{_IO, _IOR, _IOW, _IOWR, Ioctl};

/// `KVMIO`
const KVMIO: u32 = 0xae;

pub(crate) const KVM_GET_SUPPORTED_CPUID: Ioctl = _IOWR::<CpuidHeader>(KVMIO, 0x05);
pub(crate) const KVM_GET_CLOCK: Ioctl = _IOR::<ClockData>(KVMIO, 0x7c);
pub(crate) const KVM_RUN: Ioctl = _IO(KVMIO, 0x80);
pub(crate) const KVM_GET_REGS: Ioctl = _IOR::<Regs>(KVMIO, 0x81);
pub(crate) const KVM_GET_MSRS: Ioctl = _IOWR::<MsrsHeader>(KVMIO, 0x88);
pub(crate) const KVM_SET_MSRS: Ioctl = _IOW::<MsrsHeader>(KVMIO, 0x89);
pub(crate) const KVM_SET_CPUID2: Ioctl = _IOW::<CpuidHeader>(KVMIO, 0x90);
pub(crate) const KVM_ENABLE_CAP: Ioctl = _IOW::<EnableCap>(KVMIO, 0xa3);
pub(crate) const KVM_GET_TSC_KHZ: Ioctl = _IO(KVMIO, 0xa3);
pub(crate) const KVM_X86_SET_MSR_FILTER: Ioctl = _IOW::<MsrFilter>(KVMIO, 0xc6);

pub(crate) const KVM_CAP_X86_USER_SPACE_MSR: u32 = 188;

pub(crate) const KVM_EXIT_X86_RDMSR: u32 = 29;
pub(crate) const KVM_EXIT_X86_WRMSR: u32 = 30;

pub(crate) const KVM_MSR_EXIT_REASON_INVAL: u32 = 1 << 0;
pub(crate) const KVM_MSR_EXIT_REASON_UNKNOWN: u32 = 1 << 1;
pub(crate) const KVM_MSR_EXIT_REASON_FILTER: u32 = 1 << 2;

pub(crate) const KVM_MSR_FILTER_DEFAULT_DENY: u32 = 1 << 0;

pub(crate) const KVM_MSR_FILTER_READ: u32 = 1 << 0;
pub(crate) const KVM_MSR_FILTER_WRITE: u32 = 1 << 1;

pub(crate) const KVM_CPUID_FLAG_SIGNIFCANT_INDEX: u32 = 1 << 0;

pub(crate) const KVM_CLOCK_TSC_STABLE: u32 = 1 << 1;

/// `struct kvm_enable_cap`
#[repr(C)]
pub(crate) struct EnableCap {
    pub(crate) cap: u32,
    pub(crate) flags: u32,
    pub(crate) args: [u64; 4],
    pub(crate) pad: [u8; 64],
}

/// `struct kvm_msr_filter`
#[repr(C)]
pub(crate) struct MsrFilter {
    pub(crate) flags: u32,
    pub(crate) ranges: [MsrFilterRange; 16],
}

/// `struct kvm_msr_filter_range`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct MsrFilterRange {
    pub(crate) flags: u32,
    pub(crate) nmsrs: u32,
    pub(crate) base: u32,
    /// The kernel only reads it.
    pub(crate) bitmap: *const u8,
}

/// `struct kvm_msrs` without its entries, as the number of its ioctls counts it.
#[repr(C)]
pub(crate) struct MsrsHeader {
    pub(crate) nmsrs: u32,
    pub(crate) pad: u32,
}

/// `struct kvm_msrs` with one entry.
#[repr(C)]
pub(crate) struct OneMsr {
    pub(crate) header: MsrsHeader,
    pub(crate) entry: MsrEntry,
}

/// `struct kvm_msr_entry`
#[repr(C)]
pub(crate) struct MsrEntry {
    pub(crate) index: u32,
    pub(crate) reserved: u32,
    pub(crate) data: u64,
}

/// `struct kvm_cpuid2` without its entries, as the number of its ioctls counts it.
#[repr(C)]
pub(crate) struct CpuidHeader {
    pub(crate) nent: u32,
    pub(crate) padding: u32,
}

/// `struct kvm_cpuid2` with room for as many entries as KVM takes.
#[repr(C)]
pub(crate) struct CpuidTable<const ENTRIES: usize> {
    pub(crate) header: CpuidHeader,
    pub(crate) entries: [CpuidEntry; ENTRIES],
}

/// One leaf and subleaf of CPUID, laid out as `struct kvm_cpuid_entry2`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuidEntry {
    /// The leaf: EAX on entry.
    pub function: u32,
    /// The subleaf: ECX on entry. It counts only with [`CpuidEntry::INDEXED`].
    pub index: u32,
    /// [`CpuidEntry::INDEXED`], or 0.
    pub flags: u32,
    /// EAX on return.
    pub eax: u32,
    /// EBX on return.
    pub ebx: u32,
    /// ECX on return.
    pub ecx: u32,
    /// EDX on return.
    pub edx: u32,
    /// Zero.
    pub padding: [u32; 3],
}

/// `struct kvm_regs`
#[derive(Default)]
#[repr(C)]
pub(crate) struct Regs {
    /// RAX to R15.
    pub(crate) general: [u64; 16],
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
}

/// `struct kvm_clock_data`
#[derive(Default)]
#[repr(C)]
pub(crate) struct ClockData {
    pub(crate) clock: u64,
    pub(crate) flags: u32,
    pub(crate) pad0: u32,
    pub(crate) realtime: u64,
    pub(crate) host_tsc: u64,
    pub(crate) pad: [u32; 4],
}

/// `struct kvm_run` up to the end of its member `msr`.
#[derive(Debug)]
#[repr(C)]
pub struct KvmRun {
    pub(crate) request_interrupt_window: u8,
    pub(crate) immediate_exit: u8,
    pub(crate) padding1: [u8; 6],
    pub(crate) exit_reason: u32,
    pub(crate) ready_for_interrupt_injection: u8,
    pub(crate) if_flag: u8,
    pub(crate) flags: u16,
    pub(crate) cr8: u64,
    pub(crate) apic_base: u64,
    pub(crate) msr: MsrExit,
}

/// The member `msr` of the union in `struct kvm_run`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct MsrExit {
    pub(crate) error: u8,
    pub(crate) pad: [u8; 7],
    pub(crate) reason: u32,
    pub(crate) index: u32,
    pub(crate) data: u64,
}

/// The sizes in the kernel's ABI for x86-64.
const _: () = {
    assert!(size_of::<EnableCap>() == 104);
    assert!(size_of::<MsrFilter>() == 392);
    assert!(size_of::<MsrFilterRange>() == 24);
    assert!(size_of::<OneMsr>() == 24);
    assert!(size_of::<CpuidHeader>() == 8);
    assert!(size_of::<CpuidEntry>() == 40);
    assert!(size_of::<Regs>() == 144);
    assert!(size_of::<ClockData>() == 48);
    assert!(size_of::<KvmRun>() == 56);
    assert!(size_of::<*const c_void>() == 8);
};

#[cfg(test)]
mod tests;
