//! The header of a bzImage, as far as the kernel has one.
//!
//! Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". A field exists
//! from some version of the protocol on, and only in front of the header's end:
//! what lies behind that is the kernel's code.

use std::os::unix::fs::FileExt as _;

use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use vm_memory::ByteValued as _;

use crate::boot::file::GuestFile;

/// "HdrS"
pub(super) const HEADER_MAGIC: u32 = 0x5372_6448;

/// A bzImage's header. What does not exist in it is zero in `raw`.
pub(super) struct SetupHeader {
    raw: setup_header,
    /// Offset in the file.
    end: u64,
}

impl SetupHeader {
    /// Offset in the file.
    const START: u64 = 0x1f1;

    /// The header of `kernel`; `None` if it has none.
    pub(super) fn read(kernel: &GuestFile) -> Option<Self> {
        let mut raw = setup_header::default();
        kernel.file.read_exact_at(raw.as_mut_slice(), Self::START).ok()?;
        Self::of(raw)
    }

    /// What a file has at 0x1f1.
    fn of(mut raw: setup_header) -> Option<Self> {
        const OLDEST_WITH_HEADER: u16 = 0x200;
        if raw.header != HEADER_MAGIC || raw.version < OLDEST_WITH_HEADER {
            return None;
        }
        let end = end_by_jump(raw.jump).unwrap_or(u64::MAX).min(end_by_version(raw.version));
        let length = usize::try_from(end - Self::START).unwrap_or(usize::MAX);
        if let Some(code) = raw.as_mut_slice().get_mut(length..) {
            code.fill(0);
        }
        Some(SetupHeader { raw, end })
    }

    /// Of the boot protocol, such as 0x20f for 2.15.
    pub(super) fn version(&self) -> u16 {
        self.raw.version
    }

    /// As the kernel finds it in its boot parameters.
    pub(super) fn raw(&self) -> setup_header {
        self.raw
    }

    /// Boot sector and real-mode code.
    pub(super) fn setup_bytes(&self) -> u64 {
        const SECTOR: u64 = 512;
        let sectors = match self.raw.setup_sects {
            0 => 4,
            sectors => sectors.into(),
        };
        (1 + sectors) * SECTOR
    }

    /// The protected-mode kernel's size, rounded up to whole paragraphs.
    pub(super) fn kernel_bytes(&self) -> u64 {
        u64::from(self.raw.syssize) * PARAGRAPH
    }

    pub(super) fn loadflags(&self) -> u8 {
        self.since(0x200, 0x212, self.raw.loadflags).unwrap_or(0)
    }

    pub(super) fn has_long_entry(&self) -> bool {
        let flags = self.since(0x20c, 0x238, self.raw.xloadflags);
        flags.is_some_and(|flags| flags & XLF_KERNEL_64 != 0)
    }

    /// The longest command line, without its zero byte.
    pub(super) fn cmdline_size(&self) -> u32 {
        const BEFORE: u32 = 255;
        self.since(0x206, 0x23c, self.raw.cmdline_size).unwrap_or(BEFORE)
    }

    /// The last byte that an initial RAM disk may have.
    pub(super) fn initrd_addr_max(&self) -> u32 {
        const BEFORE: u32 = 0x37ff_ffff;
        self.since(0x203, 0x230, self.raw.initrd_addr_max).unwrap_or(BEFORE)
    }

    /// Where the protected-mode kernel is to lie.
    pub(super) fn load_address(&self) -> u64 {
        const BEFORE: u64 = 0x10_0000;
        self.since(0x20a, 0x260, self.raw.pref_address).unwrap_or(BEFORE)
    }

    /// What a kernel of `bytes` needs from its load address on until it has unpacked
    /// itself.
    pub(super) fn memory_bytes(&self, bytes: u64) -> u64 {
        /// For kernels that do not say it, GRUB's estimate.
        const UNPACKED: u64 = 3;
        let says = self.since(0x20a, 0x264, self.raw.init_size);
        says.map_or(bytes.saturating_mul(UNPACKED), |says| bytes.max(says.into()))
    }

    /// A field that exists since `version` and ends at `end` in the file.
    fn since<T>(&self, version: u16, end: u64, field: T) -> Option<T> {
        (self.raw.version >= version && end <= self.end).then_some(field)
    }
}

/// The unit of the kernel's size.
pub(super) const PARAGRAPH: u64 = 16;

/// The header begins with a short jump over the rest of it. `None` if it does not.
fn end_by_jump(jump: u16) -> Option<u64> {
    const SHORT_JUMP: u8 = 0xeb;
    const AFTER_JUMP: u64 = 0x202;
    let [code, distance] = jump.to_le_bytes();
    (code == SHORT_JUMP).then(|| AFTER_JUMP + u64::from(distance))
}

/// Where the last field lies that a version has.
fn end_by_version(version: u16) -> u64 {
    match version {
        ..=0x200 => 0x224,
        0x201 => 0x226,
        0x202 => 0x22c,
        0x203..=0x204 => 0x230,
        0x205 => 0x235,
        0x206 => 0x23c,
        0x207 => 0x248,
        0x208 => 0x250,
        0x209 => 0x258,
        0x20a => 0x264,
        0x20b..=0x20e => 0x268,
        _ => 0x26c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header all of whose fields are set.
    fn header(version: u16, jump: [u8; 2]) -> SetupHeader {
        let raw = setup_header {
            header: HEADER_MAGIC,
            version,
            jump: u16::from_le_bytes(jump),
            loadflags: 1,
            initrd_addr_max: 0x7fff_ffff,
            xloadflags: 1,
            cmdline_size: 2047,
            pref_address: 0x100_0000,
            init_size: 0x200_0000,
            kernel_info_offset: 0x1234,
            ..setup_header::default()
        };
        SetupHeader::of(raw).unwrap()
    }

    #[test]
    fn a_field_exists_from_its_version_on() {
        let since = |version| header(version, [0xeb, 0x6a]);
        assert_eq!(since(0x202).initrd_addr_max(), 0x37ff_ffff);
        assert_eq!(since(0x203).initrd_addr_max(), 0x7fff_ffff);
        assert_eq!((since(0x205).cmdline_size(), since(0x206).cmdline_size()), (255, 2047));
        assert_eq!((since(0x209).load_address(), since(0x20a).load_address()), (1 << 20, 16 << 20));
        assert_eq!((since(0x209).memory_bytes(5), since(0x20a).memory_bytes(5)), (15, 32 << 20));
        // It lies in front of fields that are older.
        assert!(!since(0x20b).has_long_entry());
        assert!(since(0x20c).has_long_entry());
    }

    #[test]
    fn a_field_behind_the_jump_is_code() {
        // memdisk's header ends at 0x240; so might one of any version.
        let short = header(0x20f, [0xeb, 0x3e]);
        assert_eq!((short.cmdline_size(), short.load_address()), (2047, 1 << 20));
        assert_eq!({ short.raw().pref_address }, 0, "the kernel is not told its own code");
        assert_eq!({ short.raw().cmdline_size }, 2047);
        let shorter = header(0x20f, [0xeb, 0x36]);
        assert_eq!((shorter.cmdline_size(), shorter.has_long_entry()), (255, true));
        assert_eq!(header(0x20f, [0xeb, 0]).loadflags(), 0);
    }

    #[test]
    fn a_header_without_a_short_jump_ends_as_its_version_says() {
        assert_eq!(header(0x20f, [0xe9, 0]).cmdline_size(), 2047);
        assert_eq!({ header(0x20e, [0x90, 0x90]).raw().kernel_info_offset }, 0);
        assert_eq!({ header(0x20f, [0x90, 0x90]).raw().kernel_info_offset }, 0x1234);
    }
}
