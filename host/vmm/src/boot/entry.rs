//! The state in which vCPU 0 enters a loaded guest.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

/// How vCPU 0 enters the guest. The other vCPUs wait for the guest's own
/// INIT and SIPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(Mode);

impl Entry {
    /// 32-bit protected mode, flat segments, no paging; see the multiboot
    /// specification 0.6.96, 3.2 "Machine state". PVH asks for the same.
    pub(super) fn protected(eip: u32, eax: u32, ebx: u32) -> Self {
        Self(Mode::Protected { eip, eax, ebx })
    }

    /// 32-bit protected mode with the segments of Linux; see the kernel's
    /// Documentation/arch/x86/boot.rst, "32-bit boot protocol".
    pub(super) fn linux_protected(linux: LinuxProtected) -> Self {
        Self(Mode::LinuxProtected(linux))
    }

    /// 64-bit mode; see the kernel's Documentation/arch/x86/boot.rst,
    /// "64-bit boot protocol".
    pub(super) fn long(long: Long) -> Self {
        Self(Mode::Long(long))
    }

    /// Sets the state in registers as KVM has them after a vCPU's creation.
    pub(crate) fn apply_to(&self, sregs: &mut kvm_sregs, regs: &mut kvm_regs) {
        *regs = kvm_regs { rflags: RFLAGS_RESERVED, ..kvm_regs::default() };
        sregs.idt = kvm_dtable::default();
        sregs.tr = TASK;
        match self.0 {
            Mode::Protected { eip, eax, ebx } => {
                regs.rip = eip.into();
                regs.rax = eax.into();
                regs.rbx = ebx.into();
                set_protected_mode(sregs);
                sregs.gdt = kvm_dtable::default();
                sregs.cs = CODE32;
                set_data_segments(sregs, 0x10);
            }
            Mode::LinuxProtected(LinuxProtected { eip, esi, gdt }) => {
                regs.rip = eip.into();
                regs.rsi = esi.into();
                set_protected_mode(sregs);
                sregs.gdt = linux_gdt(gdt);
                sregs.cs = kvm_segment { selector: BOOT_CS, ..CODE32 };
                set_data_segments(sregs, BOOT_DS);
            }
            Mode::Long(Long { rip, rsi, cr3, gdt }) => {
                regs.rip = rip;
                regs.rsi = rsi.into();
                sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
                sregs.cr3 = cr3.into();
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
                sregs.gdt = linux_gdt(gdt);
                sregs.cs = CODE64;
                set_data_segments(sregs, BOOT_DS);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Protected { eip: u32, eax: u32, ebx: u32 },
    LinuxProtected(LinuxProtected),
    Long(Long),
}

/// Entry of Linux in 32-bit protected mode, with a GDT that lies in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinuxProtected {
    pub(super) eip: u32,
    /// Where Linux expects its boot parameters.
    pub(super) esi: u32,
    pub(super) gdt: u32,
}

impl LinuxProtected {
    /// What the guest memory at `gdt` must hold.
    pub(super) const GDT: [u64; 4] = [0, 0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
}

/// Entry in 64-bit mode, with page tables and a GDT that lie in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Long {
    pub(super) rip: u64,
    /// Where Linux expects its boot parameters.
    pub(super) rsi: u32,
    pub(super) cr3: u32,
    pub(super) gdt: u32,
}

impl Long {
    /// What the guest memory at `gdt` must hold.
    pub(super) const GDT: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
}

/// `__BOOT_CS` of the boot protocol.
const BOOT_CS: u16 = 0x10;

/// `__BOOT_DS` of the boot protocol.
const BOOT_DS: u16 = 0x18;

/// Bit 1 of RFLAGS always reads as 1.
const RFLAGS_RESERVED: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// A flat 4 GiB segment, Intel SDM volume 3, 3.4.5.
const FLAT: kvm_segment = kvm_segment {
    base: 0,
    limit: 0xffff_ffff,
    selector: 0,
    type_: 0,
    present: 1,
    dpl: 0,
    db: 0,
    s: 1,
    l: 0,
    g: 1,
    avl: 0,
    unusable: 0,
    padding: 0,
};
const CODE32: kvm_segment = kvm_segment { selector: 0x08, type_: ACCESSED_CODE, db: 1, ..FLAT };
const CODE64: kvm_segment = kvm_segment { selector: BOOT_CS, type_: ACCESSED_CODE, l: 1, ..FLAT };
const DATA: kvm_segment = kvm_segment { type_: ACCESSED_DATA, db: 1, ..FLAT };
/// VT-x enters a guest only with a busy task segment.
const TASK: kvm_segment = kvm_segment { limit: 0xffff, type_: BUSY_TASK, s: 0, g: 0, ..FLAT };

const ACCESSED_CODE: u8 = 0xb;
const ACCESSED_DATA: u8 = 0x3;
const BUSY_TASK: u8 = 0xb;

/// A GDT of four entries at `base`.
fn linux_gdt(base: u32) -> kvm_dtable {
    const LIMIT: u16 = 4 * 8 - 1;
    kvm_dtable { base: base.into(), limit: LIMIT, padding: [0; 3] }
}

fn set_protected_mode(sregs: &mut kvm_sregs) {
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
}

fn set_data_segments(sregs: &mut kvm_sregs, selector: u16) {
    let data = kvm_segment { selector, ..DATA };
    for register in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *register = data;
    }
}

#[cfg(test)]
impl Entry {
    /// Where a guest is entered in 64-bit mode, and with what.
    pub(super) fn as_long(&self) -> Option<Long> {
        match self.0 {
            Mode::Long(long) => Some(long),
            Mode::Protected { .. } | Mode::LinuxProtected(_) => None,
        }
    }

    /// Where Linux is entered in 32-bit mode, and with what.
    pub(super) fn as_linux_protected(&self) -> Option<LinuxProtected> {
        match self.0 {
            Mode::LinuxProtected(linux) => Some(linux),
            Mode::Protected { .. } | Mode::Long(_) => None,
        }
    }

    /// EIP and EBX of a guest that is entered in 32-bit mode.
    pub(super) fn as_protected(&self) -> Option<(u32, u32)> {
        match self.0 {
            Mode::Protected { eip, ebx, .. } => Some((eip, ebx)),
            Mode::Long(_) | Mode::LinuxProtected(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(entry: Entry) -> (kvm_sregs, kvm_regs) {
        let mut sregs = kvm_sregs { apic_base: 0xfee0_0900, ..kvm_sregs::default() };
        let mut regs = kvm_regs { rdx: 0x600, ..kvm_regs::default() };
        entry.apply_to(&mut sregs, &mut regs);
        assert_eq!(sregs.apic_base, 0xfee0_0900, "the APIC stays as KVM made it");
        assert_eq!(regs.rflags, 2, "interrupts are off");
        (sregs, regs)
    }

    #[test]
    fn protected_mode_is_flat_and_unpaged() {
        let (sregs, regs) = applied(Entry::protected(0x10_0020, 0x2bad_b002, 0x9000));
        assert_eq!((regs.rip, regs.rax, regs.rbx, regs.rdx), (0x10_0020, 0x2bad_b002, 0x9000, 0));
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
        assert_eq!((sregs.cs.base, sregs.cs.limit, sregs.cs.db, sregs.cs.l), (0, u32::MAX, 1, 0));
        assert_eq!((sregs.ss.selector, sregs.ss.type_, sregs.ss.g), (0x10, 3, 1));
    }

    #[test]
    fn linux_in_protected_mode_has_the_selectors_of_the_boot_protocol() {
        let linux = LinuxProtected { eip: 0x10_0000, esi: 0x7000, gdt: 0x500 };
        let (sregs, regs) = applied(Entry::linux_protected(linux));
        assert_eq!(
            (regs.rip, regs.rsi, regs.rbp, regs.rdi, regs.rbx),
            (0x10_0000, 0x7000, 0, 0, 0)
        );
        assert_eq!((sregs.cr0, sregs.cr4, sregs.efer), (0x11, 0, 0));
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db), (0x10, 0, 1));
        assert_eq!((sregs.cs.limit, sregs.ds.limit), (u32::MAX, u32::MAX));
        assert_eq!((sregs.ds.selector, sregs.gdt.base, sregs.gdt.limit), (0x18, 0x500, 31));
    }

    #[test]
    fn long_mode_has_paging_and_the_selectors_of_the_boot_protocol() {
        let long = Long { rip: 0x10_0200, rsi: 0x7000, cr3: 0x9000, gdt: 0x500 };
        let (sregs, regs) = applied(Entry::long(long));
        assert_eq!((regs.rip, regs.rsi), (0x10_0200, 0x7000));
        assert_eq!((sregs.cr0, sregs.cr3, sregs.cr4), (0x8000_0011, 0x9000, 0x20));
        assert_eq!(sregs.efer, 0x500);
        assert_eq!((sregs.cs.selector, sregs.cs.l, sregs.cs.db), (0x10, 1, 0));
        assert_eq!((sregs.ds.selector, sregs.gdt.base, sregs.gdt.limit), (0x18, 0x500, 31));
    }
}
