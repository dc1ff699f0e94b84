//! Loads a Linux kernel.
//!
//! A bzImage is entered by the 64-bit boot protocol or, if it has no 64-bit entry,
//! by the 32-bit one; an ELF vmlinux by PVH or, if it has no PVH entry, like a
//! 64-bit bzImage. The kernel lies where it wants to
//! be, the initial RAM disk as high as the kernel reads it, and what the
//! kernel is told in low memory.

mod kernel;
mod long_mode;
mod protected_mode;
mod pvh;
mod setup_header;
#[cfg(test)]
mod tests;
mod told;
mod zero_page;

use std::path::Path;

use kernel::KernelEntry;
use told::Told;

use super::entry::Entry;
use super::error::BootError;
use super::file::GuestFile;
use super::space::{Prefer, Space};

/// Loads the kernel at `path`.
pub(super) fn load(
    space: &mut Space<'_>,
    path: &Path,
    initrd: Option<&Path>,
    cmdline: &str,
) -> Result<Entry, BootError> {
    let file = GuestFile::open(path)?;
    let kernel = kernel::load(space, file, cmdline)
        .map_err(|problem| BootError::Kernel { path: path.to_owned(), problem })?;
    let initrd = match initrd {
        None => None,
        Some(path) => {
            Some(space.place_file(GuestFile::open(path)?, &kernel.initrd, Prefer::Highest)?)
        }
    };
    let told = Told { cmdline: space.place_string(cmdline)?, initrd };
    match kernel.entry {
        KernelEntry::Long { rip, header } => long_mode::enter(space, rip, header, &told),
        KernelEntry::Protected { eip, header } => protected_mode::enter(space, eip, header, &told),
        KernelEntry::Pvh { eip } => pvh::enter(space, eip, &told),
    }
}
