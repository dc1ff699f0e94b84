//! Loads a multiboot 1 image, as `qemu-system-x86_64 -kernel` does.
//!
//! The image lies where its header says and its modules after it. All else
//! that the guest is to read, the information structure, memory map, module
//! list and strings, is in low memory: guests that take memory from the end
//! of their image upwards, such as kvm-unit-tests, leave it alone there.

mod elf32;
mod header;
mod image;
mod info;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::entry::Entry;
use super::error::BootError;
use super::file::GuestFile;
use super::image_error::ImageError;
use super::space::{FIRMWARE_HOLE, Prefer, Space};
use crate::config::BootModule;

/// Loads the image `file`, which was read from `path`.
pub(super) fn load(
    space: &mut Space<'_>,
    path: &Path,
    file: &[u8],
    cmdline: &str,
    modules: &[BootModule],
) -> Result<Entry, BootError> {
    let invalid = |problem| BootError::Image { path: path.to_owned(), problem };
    let image = header::parse(file).map_err(invalid)?;
    let mut image_end = FIRMWARE_HOLE.end;
    for segment in &image.segments {
        let memory = segment.memory.clone();
        space.take(&memory).map_err(|why| invalid(ImageError::Place { memory, why }))?;
        space.write(segment.memory.start, segment.file)?;
        image_end = image_end.max(segment.memory.end);
    }

    let mut list = Vec::new();
    for module in modules {
        let file = GuestFile::open(&module.path)?;
        let lies = space.place_file(file, &(image_end..u64::MAX), Prefer::Lowest)?;
        let string = space.place_string(&module.cmdline)?;
        list.extend(info::module_entry(&lies, string));
    }
    let map: Vec<u8> = space.map().iter().flat_map(info::map_entry).collect();
    // As QEMU does: a guest takes the first word for its own name.
    let cmdline = format!("{} {cmdline}", path.display());
    let info = info::Info {
        lower_bytes: FIRMWARE_HOLE.start,
        upper_bytes: space.extended_end() - FIRMWARE_HOLE.end,
        cmdline: space.place_string(cmdline.trim_end())?,
        modules: modules.len(),
        modules_at: space.place("a module list", &list)?,
        map_bytes: map.len(),
        map_at: space.place("a memory map", &map)?,
        loader_name: space.place_string("wasmsr")?,
    };
    let info = space.place("multiboot information", &info.to_bytes())?;
    Ok(Entry::protected(image.entry, info::BOOTED, info))
}
