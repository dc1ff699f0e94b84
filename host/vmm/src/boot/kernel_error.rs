//! What keeps a Linux kernel from being loaded.

use std::ops::Range;

use linux_loader::loader;

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
    /// A bzImage without a 64-bit entry.
    #[error(
        "has no 64-bit entry (boot protocol {}.{:02}, xloadflags {flags:#x}); wasmsr needs a \
         64-bit kernel of protocol 2.12, Linux 3.8, or later", version >> 8, version & 0xff
    )]
    NoLongEntry {
        /// Version of the boot protocol.
        version: u16,
        /// Its `xloadflags`.
        flags: u16,
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
    #[error("reads at most {limit} bytes of command line; `cmdline` has {bytes}")]
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
    /// linux-loader fails.
    #[error("is damaged, cut short, or larger than guest memory ({0:?})")]
    Load(loader::Error),
}
