//! Puts the kernel itself into memory.

use std::io::{Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{Elf, KernelLoader as _, PvhBootCapability};
use vm_memory::{Bytes as _, GuestAddress};

use super::setup_header::{HEADER_MAGIC, PARAGRAPH, SetupHeader};
use crate::boot::file::GuestFile;
use crate::boot::kernel_error::KernelError;
use crate::boot::space::{FIRMWARE_HOLE, Space};

/// A kernel that lies in memory.
pub(super) struct Kernel {
    pub(super) entry: KernelEntry,
    /// Where it can read an initial RAM disk.
    pub(super) initrd: Range<u64>,
}

/// How a kernel wants to be entered.
pub(super) enum KernelEntry {
    /// In 64-bit mode, with boot parameters that start from this header.
    Long { rip: u64, header: setup_header },
    /// In 32-bit protected mode, with the same boot parameters.
    Protected { eip: u32, header: setup_header },
    /// By PVH, in 32-bit protected mode.
    Pvh { eip: u32 },
}

/// Loads `kernel`, which must be able to read all of `cmdline`.
pub(super) fn load(
    space: &mut Space<'_>,
    kernel: GuestFile,
    cmdline: &str,
) -> Result<Kernel, KernelError> {
    if is_elf64_x86(&kernel) {
        check_cmdline(cmdline, ELF_CMDLINE)?;
        return load_elf(space, kernel);
    }
    let header = SetupHeader::read(&kernel).ok_or(KernelError::NotAKernel)?;
    check_protocol(&header)?;
    check_cmdline(cmdline, header.cmdline_size())?;
    load_bzimage(space, kernel, &header)
}

fn check_cmdline(cmdline: &str, limit: u32) -> Result<(), KernelError> {
    let bytes = cmdline.len();
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= limit => Ok(()),
        _ => Err(KernelError::Cmdline { bytes, limit }),
    }
}

/// Whether a bzImage can be entered in protected mode, which takes no BIOS.
fn check_protocol(header: &SetupHeader) -> Result<(), KernelError> {
    /// Files of older protocols, memdisk among them, count on their real-mode code.
    const OLDEST_VERSION: u16 = 0x206;
    const LOADED_HIGH: u8 = 1 << 0;
    let (version, flags) = (header.version(), header.loadflags());
    if version < OLDEST_VERSION {
        return Err(KernelError::Protocol { version });
    }
    if flags & LOADED_HIGH == 0 {
        return Err(KernelError::LoadedLow { version, flags });
    }
    Ok(())
}

/// Loads a bzImage to the address it prefers, where it has the memory it needs to
/// unpack itself, Documentation/arch/x86/boot.rst.
fn load_bzimage(
    space: &mut Space<'_>,
    kernel: GuestFile,
    header: &SetupHeader,
) -> Result<Kernel, KernelError> {
    /// From the start of the protected-mode kernel; the 32-bit entry is there itself.
    const LONG_ENTRY: u64 = 0x200;
    let long = header.has_long_entry();
    let entry = if long { LONG_ENTRY } else { 0 };

    let setup = header.setup_bytes();
    // The header counts whole paragraphs. The last one need not be whole in the file:
    // its rest is zero.
    let expected = header.kernel_bytes().max(entry + PARAGRAPH);
    let bytes = kernel.bytes.saturating_sub(setup);
    if bytes + PARAGRAPH <= expected {
        return Err(KernelError::CutShort { expected: setup + expected, bytes: kernel.bytes });
    }
    let start = header.load_address();
    let end = start.saturating_add(header.memory_bytes(bytes.max(expected)));
    take(space, start..end)?;
    copy(space, kernel, setup..setup + bytes, start)?;

    let raw = header.raw();
    let entry = match (long, u32::try_from(start)) {
        (true, _) => KernelEntry::Long { rip: start + LONG_ENTRY, header: raw },
        (false, Ok(eip)) => KernelEntry::Protected { eip, header: raw },
        (false, Err(_)) => return Err(KernelError::TooHigh { start }),
    };
    Ok(Kernel { entry, initrd: end..u64::from(header.initrd_addr_max()) + 1 })
}

/// Copies a part of the file to the address `to`.
fn copy(
    space: &Space<'_>,
    kernel: GuestFile,
    part: Range<u64>,
    to: u64,
) -> Result<(), KernelError> {
    let GuestFile { mut file, .. } = kernel;
    let bytes = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
    file.seek(SeekFrom::Start(part.start)).map_err(KernelError::Read)?;
    space
        .memory()
        .read_exact_volatile_from(GuestAddress(to), &mut file, bytes)
        .map_err(|error| KernelError::Read(std::io::Error::other(error)))
}

/// Loads a vmlinux where its program headers say.
fn load_elf(space: &mut Space<'_>, mut kernel: GuestFile) -> Result<Kernel, KernelError> {
    const INITRD_ADDR_MAX: u64 = 0x7fff_ffff;
    let start = FIRMWARE_HOLE.end;
    let loaded = Elf::load(space.memory(), None, &mut kernel.file, Some(GuestAddress(start)))
        .map_err(KernelError::Load)?;
    let end = loaded.kernel_end;
    take(space, start..end)?;
    let entry = match loaded.pvh_boot_cap {
        PvhBootCapability::PvhEntryPresent(GuestAddress(eip)) => {
            // A note holds 32 bits.
            KernelEntry::Pvh { eip: u32::try_from(eip).unwrap_or(u32::MAX) }
        }
        _ => KernelEntry::Long { rip: loaded.kernel_load.0, header: elf_setup_header() },
    };
    Ok(Kernel { entry, initrd: end..INITRD_ADDR_MAX + 1 })
}

fn take(space: &mut Space<'_>, memory: Range<u64>) -> Result<(), KernelError> {
    space.take(&memory).map_err(|why| KernelError::Place { memory, why })
}

/// What a boot loader would have found in the bzImage of this ELF file.
fn elf_setup_header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: HEADER_MAGIC,
        version: 0x20f,
        kernel_alignment: 0x100_0000,
        cmdline_size: ELF_CMDLINE,
        ..setup_header::default()
    }
}

fn is_elf64_x86(kernel: &GuestFile) -> bool {
    const CLASS_64: u8 = 2;
    const LITTLE_ENDIAN: u8 = 1;
    const EXECUTABLE: u8 = 2;
    const X86_64: u8 = 62;
    let mut start = [0; 20];
    kernel.file.read_exact_at(&mut start, 0).is_ok()
        && start.starts_with(&[0x7f, b'E', b'L', b'F', CLASS_64, LITTLE_ENDIAN])
        && start.ends_with(&[EXECUTABLE, 0, X86_64, 0])
}

/// `COMMAND_LINE_SIZE` of x86 without its zero byte.
const ELF_CMDLINE: u32 = 2047;
