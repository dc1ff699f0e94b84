//! Kernels that load, and kernels that must not.

use std::io::Write as _;

use linux_loader::loader::bootparam::{XLF_KERNEL_64, boot_params, setup_header};
use linux_loader::loader::elf::start_info::{hvm_modlist_entry, hvm_start_info};
use proptest::prelude::*;
use tempfile::NamedTempFile;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::boot::entry::Long;

const MEMORY: u32 = 32 << 20;

/// A 64-bit bzImage of one setup sector and 1 KiB, which wants 1 MiB at 16 MiB.
fn bzimage() -> Vec<u8> {
    let header = setup_header {
        setup_sects: 1,
        syssize: 1024 / 16,
        jump: u16::from_le_bytes([0xeb, 0x6a]),
        header: 0x5372_6448,
        version: 0x20f,
        loadflags: 1,
        initrd_addr_max: 0x7fff_ffff,
        xloadflags: XLF_KERNEL_64,
        cmdline_size: 20,
        pref_address: 16 << 20,
        init_size: 1 << 20,
        ..setup_header::default()
    };
    let mut file = vec![0; 0x1f1];
    file.extend(header.as_slice());
    file.resize(1024, 0);
    file.resize(2048, 0x5a);
    file
}

/// A vmlinux of one segment at 16 MiB and, if asked for, a PVH note.
fn vmlinux(pvh: bool) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    for half in [2_u16, 62] {
        file.extend(half.to_le_bytes());
    }
    file.extend(1_u32.to_le_bytes());
    for word in [0x100_0100_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut segment = |kind: u32, offset: u64, bytes: u64, memory: u64| {
        file.extend([kind, 5].into_iter().flat_map(u32::to_le_bytes));
        for word in [offset, 0x100_0000, 0x100_0000, bytes, memory, 4] {
            file.extend(word.to_le_bytes());
        }
    };
    segment(1, 176, 0x200, 0x10_0000);
    segment(if pvh { 4 } else { 0 }, 176 + 0x200, 20, 20);
    file.resize(176 + 0x200, 0x5a);
    for word in [4_u32, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x100_0200] {
        file.extend(word.to_le_bytes());
    }
    file
}

fn file(content: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    file
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)]).unwrap()
}

/// Loads `kernel` into 32 MiB, with an initial RAM disk of 7 bytes.
fn load_with_initrd(kernel: &[u8], cmdline: &str) -> (GuestMemoryMmap, Result<Entry, BootError>) {
    let memory = memory();
    let initrd = file(b"initrd!");
    let kernel = file(kernel);
    let mut space = Space::new(&memory);
    let entry = load(&mut space, kernel.path(), Some(initrd.path()), cmdline);
    (memory, entry)
}

fn read<T: ByteValued>(memory: &GuestMemoryMmap, at: u64) -> T {
    memory.read_obj(GuestAddress(at)).unwrap()
}

fn long(entry: Entry) -> Long {
    entry.as_long().unwrap()
}

const HIGHEST_PAGE: u32 = MEMORY - 4096;

#[test]
fn a_bzimage_is_told_where_things_lie() {
    let (memory, entry) = load_with_initrd(&bzimage(), "console=ttyS0");
    let entry = long(entry.unwrap());
    assert_eq!(entry.rip, 0x100_0200);
    assert_eq!(read::<u8>(&memory, entry.rip), 0x5a);
    assert_eq!(read::<u64>(&memory, entry.gdt as u64 + 16), 0x00af_9b00_0000_ffff);
    assert_eq!(read::<u64>(&memory, entry.cr3 as u64) & !0xfff, entry.cr3 as u64 + 4096);

    let params: boot_params = read(&memory, entry.rsi.into());
    let header = params.hdr;
    assert_eq!({ header.ramdisk_image }, HIGHEST_PAGE);
    assert_eq!({ header.ramdisk_size }, 7);
    assert_eq!(&read::<[u8; 7]>(&memory, HIGHEST_PAGE.into()), b"initrd!");
    assert_eq!(&read::<[u8; 14]>(&memory, header.cmd_line_ptr.into()), b"console=ttyS0\0");
    assert_eq!(header.type_of_loader, 0xff);
    assert_eq!({ header.pref_address }, 16 << 20, "the kernel's own header");
    assert_eq!({ params.acpi_rsdp_addr }, 0xe_0000);
    let ram = params.e820_table.map(|entry| ({ entry.addr }, { entry.size }, { entry.r#type }));
    assert_eq!(params.e820_entries, 4);
    assert_eq!((ram[0], ram[3]), ((0, 0x9_fc00, 1), (0x10_0000, 31 << 20, 1)));
    assert_eq!(ram[1..3], [(0x9_fc00, 0x400, 2), (0xe_0000, 0x2_0000, 2)]);
}

/// [`bzimage`] with bytes in other places.
fn bzimage_with(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut kernel = bzimage();
    for (at, bytes) in changes {
        kernel[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    kernel
}

// QEMU, GRUB and kexec load what the file has, whatever its header says; memtest86+
// 6.10 ends 8 bytes before the end that its header rounds up to.
#[test]
fn a_last_paragraph_need_not_be_whole() {
    for missing in [1, 8, 15] {
        let kernel = bzimage();
        let (memory, entry) = load_with_initrd(&kernel[..kernel.len() - missing], "");
        assert_eq!(long(entry.unwrap()).rip, 0x100_0200, "{missing} bytes");
        let last = read::<[u8; 16]>(&memory, 0x100_0000 + 1024 - 16);
        let (there, zeros) = last.split_at(16 - missing);
        assert!(there.iter().all(|&byte| byte == 0x5a) && zeros.iter().all(|&byte| byte == 0));
    }
}

#[test]
fn a_file_may_go_on_behind_its_kernel() {
    let mut kernel = bzimage();
    kernel.extend(b"a signature");
    assert_eq!(long(load_with_initrd(&kernel, "").1.unwrap()).rip, 0x100_0200);
}

#[test]
fn a_kernel_without_a_64_bit_entry_is_entered_in_32_bits() {
    let no_flag: (usize, &[u8]) = (0x236, &[0]);
    let before_the_flag: (usize, &[u8]) = (0x206, &[0x0b, 2]);
    for change in [no_flag, before_the_flag] {
        let (memory, entry) = load_with_initrd(&bzimage_with(&[change]), "console=ttyS0");
        let entry = entry.unwrap().as_linux_protected().unwrap();
        assert_eq!(entry.eip, 0x100_0000, "its first byte");
        assert_eq!(read::<u8>(&memory, entry.eip.into()), 0x5a);
        assert_eq!(read::<u64>(&memory, entry.gdt as u64 + 16), 0x00cf_9b00_0000_ffff);
        assert_eq!(read::<u64>(&memory, entry.gdt as u64 + 24), 0x00cf_9300_0000_ffff);
        let params: boot_params = read(&memory, entry.esi.into());
        assert_eq!({ params.hdr.ramdisk_image }, HIGHEST_PAGE);
        let cmdline = params.hdr.cmd_line_ptr;
        assert_eq!(&read::<[u8; 14]>(&memory, cmdline.into()), b"console=ttyS0\0");
    }
}

#[test]
fn a_kernel_before_preferred_addresses_lies_at_1_mib() {
    let old = bzimage_with(&[(0x206, &[6, 2])]);
    let (memory, entry) = load_with_initrd(&old, "");
    let entry = entry.unwrap().as_linux_protected().unwrap();
    assert_eq!(entry.eip, 0x10_0000);
    let params: boot_params = read(&memory, entry.esi.into());
    assert_eq!({ params.hdr.pref_address }, 0, "no field of its header");
}

#[test]
fn a_32_bit_kernel_may_be_shorter_than_the_64_bit_entry() {
    let tiny = bzimage_with(&[(0x236, &[0]), (0x1f4, &[1, 0])]);
    let (_, entry) = load_with_initrd(&tiny[..1024 + 5], "");
    assert_eq!(entry.unwrap().as_linux_protected().unwrap().eip, 0x100_0000);
    let tiny = bzimage_with(&[(0x1f4, &[1, 0])]);
    let (_, entry) = load_with_initrd(&tiny[..1024 + 16], "");
    assert!(entry.unwrap_err().to_string().contains("is cut short"), "its entry is not there");
}

#[test]
fn a_vmlinux_with_a_pvh_note_is_entered_there() {
    let (memory, entry) = load_with_initrd(&vmlinux(true), "quiet");
    let (eip, info) = entry.unwrap().as_protected().unwrap();
    assert_eq!(eip, 0x100_0200);
    let info: hvm_start_info = read(&memory, info.into());
    assert_eq!((info.magic, info.version, info.rsdp_paddr), (0x336e_c578, 1, 0xe_0000));
    assert_eq!(&read::<[u8; 6]>(&memory, info.cmdline_paddr), b"quiet\0");
    assert_eq!((info.nr_modules, info.memmap_entries), (1, 4));
    let module: hvm_modlist_entry = read(&memory, info.modlist_paddr);
    assert_eq!((module.paddr, module.size), (HIGHEST_PAGE.into(), 7));
    assert_eq!(read::<u64>(&memory, info.memmap_paddr + 3 * 24), 0x10_0000);
}

#[test]
fn a_vmlinux_without_one_is_entered_like_a_bzimage() {
    let (memory, entry) = load_with_initrd(&vmlinux(false), "quiet");
    let entry = long(entry.unwrap());
    assert_eq!(entry.rip, 0x100_0100);
    let params: boot_params = read(&memory, entry.rsi.into());
    assert_eq!({ params.hdr.header }, 0x5372_6448);
    assert_eq!({ params.hdr.ramdisk_image }, HIGHEST_PAGE);
}

#[test]
fn an_initrd_stays_below_the_address_that_the_kernel_names() {
    let mut kernel = bzimage();
    let initrd_addr_max = 0x22c;
    kernel[initrd_addr_max..initrd_addr_max + 4].copy_from_slice(&0x17f_ffff_u32.to_le_bytes());
    let (memory, entry) = load_with_initrd(&kernel, "");
    let params: boot_params = read(&memory, long(entry.unwrap()).rsi.into());
    assert_eq!({ params.hdr.ramdisk_image }, 0x17f_f000);
}

#[test]
fn each_wrong_kernel_is_refused_for_its_own_reason() {
    fn check(kernel: &[u8], expected: &str) {
        let (_, result) = load_with_initrd(kernel, "console=ttyS0");
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut kernel = bzimage();
        kernel[at..at + bytes.len()].copy_from_slice(bytes);
        kernel
    }
    check(b"", "is empty");
    check(b"#!/bin/sh\n", "is not a Linux kernel");
    check(&bzimage()[..600], "is not a Linux kernel");
    check(&with(0x202, b"XXXX"), "is not a Linux kernel");
    check(&with(0x206, &[0x03, 2]), "has boot protocol 2.03, which is entered in real mode");
    check(&with(0x206, &[0x05, 2]), "has boot protocol 2.05, which is entered in real mode");
    check(&with(0x206, &[0xff, 1]), "is not a Linux kernel");
    check(&with(0x211, &[0]), "is a zImage, which is loaded below 1 MiB (boot protocol 2.15, ");
    check(&with(0x238, &[4]), "reads at most 4 bytes of command line; `cmdline` has 13");
    check(&with(0x25f, &[0xff]), "which is outside guest memory; raise `memory`");
    check(&with(0x263, &[0xff]), "which is outside guest memory; raise `memory`");
    check(&with(0x1f1, &[2]), "is cut short: a kernel of 2560 bytes, of which the file has 2048");
    check(&bzimage()[..2048 - 16], "is cut short");
    check(&bzimage()[..1024], "is cut short");
    check(&bzimage()[..800], "is cut short");
    let elf32 = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0rest";
    check(elf32, "if it is a multiboot image, use `image =`");
    check(&vmlinux(true)[..0x100], "is damaged");
}

#[test]
fn an_initrd_that_does_not_fit_is_named() {
    let initrd = file(&vec![1; 20 << 20]);
    let kernel = file(&bzimage());
    let memory = memory();
    let result = load(&mut Space::new(&memory), kernel.path(), Some(initrd.path()), "");
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with(&initrd.path().display().to_string()), "{message}");
    assert!(message.contains("20971520 bytes"), "{message}");
}

fn mutated(kernel: &[u8], changes: Vec<(prop::sample::Index, u8)>, end: usize) -> Vec<u8> {
    let mut kernel = kernel.to_vec();
    for (at, value) in changes {
        let at = at.index(end);
        kernel[at] = value;
    }
    kernel
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_mutated_bzimage_panics(changes in changes()) {
        let _ = load_with_initrd(&mutated(&bzimage()[..], changes, 1024), "quiet");
    }

    #[test]
    fn no_mutated_vmlinux_panics(changes in changes(), end in 64_usize..700) {
        let kernel = mutated(&vmlinux(true), changes, 176);
        let _ = load_with_initrd(&kernel[..end.min(kernel.len())], "quiet");
    }
}
