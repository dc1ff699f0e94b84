//! The kernel's structures and numbers that this crate uses (`linux/kvm.h`,
//! `asm/kvm.h`), written down anew so that a VMM's own version of kvm-bindings does
//! not matter. The tests hold them against that crate.

use std::ffi::c_void;

use libc::{_IO, _IOR, _IOW, _IOWR, Ioctl};

/// `KVMIO`
const KVMIO: u32 = 0xae;

pub(crate) const KVM_CREATE_VM: Ioctl = _IO(KVMIO, 0x01);
pub(crate) const KVM_GET_VCPU_MMAP_SIZE: Ioctl = _IO(KVMIO, 0x04);
pub(crate) const KVM_GET_SUPPORTED_CPUID: Ioctl = _IOWR::<CpuidHeader>(KVMIO, 0x05);
pub(crate) const KVM_CREATE_VCPU: Ioctl = _IO(KVMIO, 0x41);
pub(crate) const KVM_SET_USER_MEMORY_REGION: Ioctl = _IOW::<MemoryRegion>(KVMIO, 0x46);
pub(crate) const KVM_SET_TSS_ADDR: Ioctl = _IO(KVMIO, 0x47);
pub(crate) const KVM_SET_IDENTITY_MAP_ADDR: Ioctl = _IOW::<u64>(KVMIO, 0x48);
pub(crate) const KVM_CREATE_IRQCHIP: Ioctl = _IO(KVMIO, 0x60);
pub(crate) const KVM_GET_CLOCK: Ioctl = _IOR::<ClockData>(KVMIO, 0x7c);
pub(crate) const KVM_RUN: Ioctl = _IO(KVMIO, 0x80);
pub(crate) const KVM_GET_REGS: Ioctl = _IOR::<Registers>(KVMIO, 0x81);
pub(crate) const KVM_SET_REGS: Ioctl = _IOW::<Registers>(KVMIO, 0x82);
pub(crate) const KVM_GET_SREGS: Ioctl = _IOR::<SpecialRegisters>(KVMIO, 0x83);
pub(crate) const KVM_SET_SREGS: Ioctl = _IOW::<SpecialRegisters>(KVMIO, 0x84);
pub(crate) const KVM_GET_MSRS: Ioctl = _IOWR::<MsrsHeader>(KVMIO, 0x88);
pub(crate) const KVM_SET_MSRS: Ioctl = _IOW::<MsrsHeader>(KVMIO, 0x89);
pub(crate) const KVM_GET_LAPIC: Ioctl = _IOR::<LapicState>(KVMIO, 0x8e);
pub(crate) const KVM_SET_CPUID2: Ioctl = _IOW::<CpuidHeader>(KVMIO, 0x90);
pub(crate) const KVM_GET_CPUID2: Ioctl = _IOWR::<CpuidHeader>(KVMIO, 0x91);
pub(crate) const KVM_SET_MP_STATE: Ioctl = _IOW::<u32>(KVMIO, 0x99);
pub(crate) const KVM_ENABLE_CAP: Ioctl = _IOW::<EnableCap>(KVMIO, 0xa3);
pub(crate) const KVM_GET_TSC_KHZ: Ioctl = _IO(KVMIO, 0xa3);
pub(crate) const KVM_X86_SET_MSR_FILTER: Ioctl = _IOW::<MsrFilter>(KVMIO, 0xc6);

pub(crate) const KVM_SET_DEVICE_ATTR: Ioctl = _IOW::<DeviceAttribute>(KVMIO, 0xe1);
pub(crate) const KVM_GET_DEVICE_ATTR: Ioctl = _IOW::<DeviceAttribute>(KVMIO, 0xe2);

pub(crate) const KVM_CAP_X86_USER_SPACE_MSR: u32 = 188;
pub(crate) const KVM_CAP_ENFORCE_PV_FEATURE_CPUID: u32 = 190;

pub(crate) const KVM_MP_STATE_RUNNABLE: u32 = 0;

pub(crate) const KVM_VCPU_TSC_CTRL: u32 = 0;
pub(crate) const KVM_VCPU_TSC_OFFSET: u64 = 0;

pub(crate) const KVM_EXIT_IO: u32 = 2;

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

/// `struct kvm_userspace_memory_region`
#[repr(C)]
pub(crate) struct MemoryRegion {
    pub(crate) slot: u32,
    pub(crate) flags: u32,
    pub(crate) guest_phys_addr: u64,
    pub(crate) memory_size: u64,
    pub(crate) userspace_addr: u64,
}

/// `struct kvm_regs`
#[derive(Default)]
#[repr(C)]
pub(crate) struct Registers {
    pub(crate) rax: u64,
    pub(crate) rbx: u64,
    pub(crate) rcx: u64,
    pub(crate) rdx: u64,
    pub(crate) rsi: u64,
    pub(crate) rdi: u64,
    pub(crate) rsp: u64,
    pub(crate) rbp: u64,
    pub(crate) r8_to_r15: [u64; 8],
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
}

/// `struct kvm_segment`
#[derive(Default, Clone, Copy)]
#[repr(C)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    pub(crate) limit: u32,
    pub(crate) selector: u16,
    pub(crate) kind: u8,
    pub(crate) present: u8,
    pub(crate) dpl: u8,
    pub(crate) db: u8,
    pub(crate) s: u8,
    pub(crate) l: u8,
    pub(crate) g: u8,
    pub(crate) avl: u8,
    pub(crate) unusable: u8,
    pub(crate) padding: u8,
}

/// `struct kvm_dtable`
#[derive(Default)]
#[repr(C)]
pub(crate) struct DescriptorTable {
    pub(crate) base: u64,
    pub(crate) limit: u16,
    pub(crate) padding: [u16; 3],
}

/// `struct kvm_sregs`
#[derive(Default)]
#[repr(C)]
pub(crate) struct SpecialRegisters {
    pub(crate) cs: Segment,
    /// DS, ES, FS, GS, SS.
    pub(crate) data: [Segment; 5],
    pub(crate) tr: Segment,
    pub(crate) ldt: Segment,
    pub(crate) gdt: DescriptorTable,
    pub(crate) idt: DescriptorTable,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) cr8: u64,
    pub(crate) efer: u64,
    pub(crate) apic_base: u64,
    pub(crate) interrupt_bitmap: [u64; 4],
}

/// `struct kvm_lapic_state`
#[repr(C)]
pub(crate) struct LapicState {
    pub(crate) regs: [u8; 1024],
}

/// `struct kvm_device_attr`
#[repr(C)]
pub(crate) struct DeviceAttribute {
    pub(crate) flags: u32,
    pub(crate) group: u32,
    pub(crate) attr: u64,
    pub(crate) addr: u64,
}

/// `struct kvm_run` up to the port of a port access: the member `io` of its union.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct IoRun {
    pub(crate) head: [u8; 32],
    pub(crate) direction: u8,
    pub(crate) size: u8,
    pub(crate) port: u16,
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
    assert!(size_of::<ClockData>() == 48);
    assert!(size_of::<KvmRun>() == 56);
    assert!(size_of::<MemoryRegion>() == 32);
    assert!(size_of::<Registers>() == 144);
    assert!(size_of::<Segment>() == 24);
    assert!(size_of::<SpecialRegisters>() == 312);
    assert!(size_of::<LapicState>() == 1024);
    assert!(size_of::<DeviceAttribute>() == 24);
    assert!(size_of::<*const c_void>() == 8);
};

#[cfg(test)]
mod tests;
