//! Puts the kernel itself into memory.

use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use linux_loader::loader::{BzImage, Elf, KernelLoader as _, PvhBootCapability};
use vm_memory::{ByteValued as _, GuestAddress};

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
    let header = setup_header_of(&kernel).ok_or(KernelError::NotAKernel)?;
    check_cmdline(cmdline, header.cmdline_size)?;
    load_bzimage(space, kernel, header)
}

fn check_cmdline(cmdline: &str, limit: u32) -> Result<(), KernelError> {
    let bytes = cmdline.len();
    match u32::try_from(bytes) {
        Ok(bytes) if bytes <= limit => Ok(()),
        _ => Err(KernelError::Cmdline { bytes, limit }),
    }
}

/// Loads a bzImage to the address it prefers, where it has `init_size` bytes
/// to unpack itself, Documentation/arch/x86/boot.rst.
fn load_bzimage(
    space: &mut Space<'_>,
    mut kernel: GuestFile,
    header: setup_header,
) -> Result<Kernel, KernelError> {
    const OLDEST_VERSION: u16 = 0x20c;
    /// From the start of the protected-mode kernel.
    const LONG_ENTRY: u64 = 0x200;
    let (version, flags) = (header.version, header.xloadflags);
    if version < OLDEST_VERSION || flags & XLF_KERNEL_64 == 0 {
        return Err(KernelError::NoLongEntry { version, flags });
    }
    let expected = bzimage_bytes(&header);
    if kernel.bytes < expected {
        return Err(KernelError::CutShort { expected, bytes: kernel.bytes });
    }
    let start = header.pref_address;
    let end = start.saturating_add(kernel.bytes.max(header.init_size.into()));
    take(space, start..end)?;
    BzImage::load(space.memory(), Some(GuestAddress(start)), &mut kernel.file, None)
        .map_err(KernelError::Load)?;
    Ok(Kernel {
        entry: KernelEntry::Long { rip: start + LONG_ENTRY, header },
        initrd: end..u64::from(header.initrd_addr_max) + 1,
    })
}

/// Real-mode sectors, boot sector and protected-mode kernel.
fn bzimage_bytes(header: &setup_header) -> u64 {
    const SECTOR: u64 = 512;
    const PARAGRAPH: u64 = 16;
    let setup_sectors = match header.setup_sects {
        0 => 4,
        sectors => sectors.into(),
    };
    (1 + setup_sectors) * SECTOR + u64::from(header.syssize) * PARAGRAPH
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

/// The header of a bzImage.
fn setup_header_of(kernel: &GuestFile) -> Option<setup_header> {
    const OFFSET: u64 = 0x1f1;
    let mut header = setup_header::default();
    kernel.file.read_exact_at(header.as_mut_slice(), OFFSET).ok()?;
    (header.header == HEADER_MAGIC).then_some(header)
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

/// "HdrS"
const HEADER_MAGIC: u32 = 0x5372_6448;

/// `COMMAND_LINE_SIZE` of x86 without its zero byte.
const ELF_CMDLINE: u32 = 2047;
