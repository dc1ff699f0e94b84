//! What keeps a Linux kernel from being loaded.

use std::ops::Range;

use linux_loader::loader;
use wasmsr_interface::counted;

use super::taken::Taken;

/// What is wrong with a kernel. Reads as a sentence after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Some other kind of file.
    #[error(
        "is not a Linux kernel: neither a bzImage nor a 64-bit x86 ELF executable; if it is a \
         multiboot image, use `image =`"
    )]
    NotAKernel,
    /// A boot protocol of kernels that are entered in real mode.
    #[error(
        "has boot protocol {}.{:02}, which is entered in real mode and calls a BIOS; wasmsr has \
         none and boots protocol 2.06, Linux 2.6.22, and later", version >> 8, version & 0xff
    )]
    Protocol {
        /// Version of the boot protocol.
        version: u16,
    },
    /// A kernel for low memory.
    #[error(
        "is a zImage, which is loaded below 1 MiB (boot protocol {}.{:02}, loadflags {flags:#x}); \
         wasmsr takes a bzImage", version >> 8, version & 0xff
    )]
    LoadedLow {
        /// Version of the boot protocol.
        version: u16,
        /// Its `loadflags`.
        flags: u8,
    },
    /// A 32-bit kernel where 32 bits do not reach.
    #[error("is a 32-bit kernel and wants to lie at {start:#x}, above 4 GiB")]
    TooHigh {
        /// Its preferred address.
        start: u64,
    },
    /// The kernel's memory cannot be had.
    #[error("needs the memory from {:#x} to {:#x}, which {why}", memory.start, memory.end)]
    Place {
        /// What it needs.
        memory: Range<u64>,
        /// Why it cannot have it.
        why: Taken,
    },
    /// The kernel would cut the command line off.
    #[error("reads at most {} of command line; `cmdline` has {bytes}", counted(*limit, "byte", "bytes"))]
    Cmdline {
        /// The line's length.
        bytes: usize,
        /// What the kernel reads.
        limit: u32,
    },
    /// A bzImage without its end.
    #[error("is cut short: a kernel of {expected} bytes, of which the file has {bytes}")]
    CutShort {
        /// What its header says.
        expected: u64,
        /// The file's size.
        bytes: u64,
    },
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// linux-loader fails.
    #[error("is damaged, cut short, or larger than guest memory ({0:?})")]
    Load(loader::Error),
}
