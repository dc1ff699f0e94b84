//! What keeps a guest from being loaded.

use std::io;
use std::path::PathBuf;

use wasmsr_interface::counted;

use super::image_error::ImageError;
use super::kernel_error::KernelError;
use super::program::WrongWords;
use crate::memory::MemoryError;

/// Why a guest cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file cannot be opened or read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A directory or a device.
    #[error("{} is not a regular file", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// Nothing to load.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Guest memory has no room for a whole file.
    #[error(
        "{} has {}, which find no room in guest memory below 4 GiB; raise `memory`",
        path.display(), counted(*bytes, "byte", "bytes")
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// No guest of this name.
    #[error("no built-in guest is called `{name}`; there is: {known}")]
    UnknownGuest {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: &'static str,
    },
    /// A command line that a built-in guest cannot read.
    #[error(
        "the guest `{name}` does what its `cmdline` says: 0x10a reads, 0x10a=0x2b writes, and \
         there are `wait`, `repeat`, `end`, `cpu`, `quiet`, `loud` and `reset`; wrong here: {words}"
    )]
    GuestCmdline {
        /// Its name.
        name: String,
        /// What is wrong.
        words: WrongWords,
    },
    /// A multiboot image that cannot be loaded.
    #[error("{} {problem}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        problem: ImageError,
    },
    /// A Linux kernel that cannot be loaded.
    #[error("{} {problem}", path.display())]
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// What is wrong with it.
        problem: KernelError,
    },
    /// More CPUs than local APICs can be numbered.
    #[error("{vcpus} vCPUs are more than the 255 that the guest's tables can name; lower `vcpus`")]
    TooManyVcpus {
        /// The number asked for.
        vcpus: u32,
    },
    /// A string for the guest contains a zero byte, which would end it.
    #[error("command line {text:?} contains a zero byte, where the guest would stop reading")]
    ZeroByte {
        /// The string.
        text: String,
    },
    /// A table for the guest finds no place.
    #[error("guest memory has no room for {what} of {}; raise `memory`", counted(*bytes, "byte", "bytes"))]
    NoRoom {
        /// What finds no place.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// There is no guest memory to check a guest with.
    #[error(transparent)]
    NoMemory(#[from] MemoryError),
    /// Guest memory itself cannot be written.
    #[error("cannot write {} to guest memory at {at:#x}: {error}", counted(*bytes, "byte", "bytes"))]
    Memory {
        /// Guest-physical address.
        at: u64,
        /// Length.
        bytes: usize,
        /// What vm-memory says.
        error: vm_memory::GuestMemoryError,
    },
}
