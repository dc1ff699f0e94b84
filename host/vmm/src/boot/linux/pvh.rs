//! Entry by PVH: Xen's docs/misc/pvh.pandoc and
//! include/public/arch-x86/hvm/start_info.h.

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued as _;

use super::told::Told;
use crate::boot::acpi;
use crate::boot::entry::Entry;
use crate::boot::error::BootError;
use crate::boot::space::{MapEntry, Space};

/// Tells the kernel at `eip` what it needs to know.
pub(super) fn enter(space: &mut Space<'_>, eip: u32, told: &Told) -> Result<Entry, BootError> {
    const MAGIC: u32 = 0x336e_c578;
    let mut info = hvm_start_info {
        magic: MAGIC,
        version: 1,
        cmdline_paddr: told.cmdline.into(),
        rsdp_paddr: acpi::ROOT_POINTER.into(),
        ..hvm_start_info::default()
    };
    let mut map = Vec::new();
    for part in space.map() {
        map.extend_from_slice(map_entry(&part).as_slice());
        info.memmap_entries += 1;
    }
    info.memmap_paddr = space.place("a memory map", &map)?.into();
    if let Some(initrd) = &told.initrd {
        let module = hvm_modlist_entry {
            paddr: initrd.start.into(),
            size: (initrd.end - initrd.start).into(),
            ..hvm_modlist_entry::default()
        };
        info.nr_modules = 1;
        info.modlist_paddr = space.place("a module list", module.as_slice())?.into();
    }
    let info = space.place("PVH start information", info.as_slice())?;
    Ok(Entry::protected(eip, 0, info))
}

fn map_entry(part: &MapEntry) -> hvm_memmap_table_entry {
    let MapEntry { range, kind } = part;
    hvm_memmap_table_entry {
        addr: range.start,
        size: range.end - range.start,
        type_: *kind,
        ..hvm_memmap_table_entry::default()
    }
}
