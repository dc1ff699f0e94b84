//! What keeps a multiboot image from being loaded.

use std::ops::Range;

use wasmsr_interface::counted;

use super::taken::Taken;

/// How far into the file a multiboot header may end.
pub(super) const SEARCHED: usize = 8192;

/// What is wrong with an image. Reads as a sentence after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Some other kind of file.
    #[error(
        "is not a multiboot 1 image: no header in its first {SEARCHED} bytes; if it is a Linux \
         kernel, use `kernel =`"
    )]
    NoHeader,
    /// Header flags that a loader must refuse if it does not know them.
    #[error(
        "requires multiboot features that wasmsr does not have: header flags {flags:#x} \
         (known: bits 0, 1 and 16)"
    )]
    Features {
        /// The unknown bits among the mandatory ones.
        flags: u32,
    },
    /// Not an ELF file, and its header has no addresses.
    #[error("is not an ELF file, and its multiboot header gives no load addresses (flag bit 16)")]
    NoAddresses,
    /// The header's address fields contradict each other or the file.
    #[error("has a multiboot header whose {what}")]
    Addresses {
        /// Which field, and what is wrong with it.
        what: &'static str,
    },
    /// An ELF file for some other machine.
    #[error("is {what}; multiboot 1 takes 32-bit x86 executables (link with -m elf_i386)")]
    WrongElf {
        /// What it is.
        what: &'static str,
    },
    /// The ELF file ends before what its headers promise.
    #[error("is cut short: {what} is not within its {}", counted(*bytes, "byte", "bytes"))]
    CutShort {
        /// What is missing.
        what: String,
        /// The file's size.
        bytes: usize,
    },
    /// An ELF segment whose sizes contradict each other.
    #[error("is damaged: ELF segment {index} is longer in the file than in memory")]
    Segment {
        /// Its number among the program headers.
        index: usize,
    },
    /// A start address in no segment.
    #[error("starts at {entry:#x}, which is in none of its segments")]
    Entry {
        /// The address.
        entry: u32,
    },
    /// A segment that cannot be put where it belongs.
    #[error("loads a segment to {:#x}-{:#x}, which {why}", memory.start, memory.end - 1)]
    Place {
        /// Where it belongs.
        memory: Range<u64>,
        /// Why it cannot lie there.
        why: Taken,
    },
}
