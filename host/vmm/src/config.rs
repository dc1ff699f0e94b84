//! What a VM is made of and what it runs: `[vm]` and `[boot]` of a profile, as plain
//! values.

use std::path::PathBuf;

/// `[vm]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    /// Guest memory in bytes; a multiple of 4096.
    pub memory: u64,
    /// Number of virtual CPUs, 1 to [`MAX_VCPUS`](wasmsr_interface::MAX_VCPUS).
    pub vcpus: u32,
}

/// `[boot]`: what the VM runs. Paths are absolute or relative to the current
/// directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// `guest = "NAME"`: a guest built into the VMM.
    Guest {
        /// Its name.
        name: String,
        /// Its command line, without the name.
        cmdline: String,
    },
    /// `image = "FILE"`: a multiboot 1 ELF32 image.
    Image {
        /// The image.
        path: PathBuf,
        /// Its command line, without the image's own name.
        cmdline: String,
        /// Modules, in order.
        modules: Vec<BootModule>,
    },
    /// `kernel = "FILE"`: a Linux kernel, bzImage or ELF with a PVH entry.
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// Its initial RAM disk.
        initrd: Option<PathBuf>,
        /// Its command line.
        cmdline: String,
    },
}

/// A multiboot module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootModule {
    /// The file.
    pub path: PathBuf,
    /// The module's string, as the guest reads it.
    pub cmdline: String,
}
