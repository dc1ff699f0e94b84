//! Puts a guest into memory and says how vCPU 0 enters it.
//!
//! Everything in a guest's files is taken for hostile: a file can make a boot
//! fail, with a [`BootError`] that names it, and no more.

mod accesses;
mod acpi;
mod bios_data;
mod builtin;
mod entry;
mod error;
mod file;
mod image_error;
mod kernel_error;
mod linux;
mod multiboot;
mod program;
mod space;
mod taken;

use std::path::Path;

pub(crate) use entry::Entry;
pub use error::BootError;
use file::GuestFile;
pub use image_error::ImageError;
pub use kernel_error::KernelError;
pub use program::WrongWords;
use space::Space;
pub use taken::Taken;
use vm_memory::GuestMemoryMmap;

use crate::config::Boot;
use crate::memory;

/// Loads a guest into fresh memory.
///
/// # Errors
/// A [`BootError`] if a file of the guest cannot be read, is not what it
/// should be, or does not fit into `memory`.
pub(crate) fn load(memory: &GuestMemoryMmap, boot: &Boot, vcpus: u32) -> Result<Entry, BootError> {
    let mut space = Space::new(memory);
    bios_data::write(&space)?;
    let entry = match boot {
        Boot::Guest { name, cmdline } => {
            let (image, cmdline) = builtin::guest(name, cmdline, vcpus)?;
            multiboot::load(&mut space, Path::new(name), image, &cmdline, &[])?
        }
        Boot::Image { path, cmdline, modules } => {
            let image = GuestFile::open(path)?.read(space.extended_end())?;
            multiboot::load(&mut space, path, &image, cmdline, modules)?
        }
        Boot::Kernel { path, initrd, cmdline } => {
            linux::load(&mut space, path, initrd.as_deref(), cmdline)?
        }
    };
    acpi::write(&space, vcpus)?;
    Ok(entry)
}

/// Whether a guest can be loaded into `memory_bytes` of memory; needs
/// no KVM.
///
/// # Errors
/// What keeps it from being loaded, or from getting the memory on this host.
pub fn check(boot: &Boot, memory_bytes: u64, vcpus: u32) -> Result<(), BootError> {
    /// The width of x86-64's physical addresses.
    const ADDRESS_BITS: u8 = 52;
    let memory = memory::allocate(memory_bytes, ADDRESS_BITS)?;
    load(&memory, boot, vcpus).map(drop)
}
