//! The boot parameters of the 32-bit and the 64-bit boot protocol:
//! Documentation/arch/x86/zero-page.rst.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::ByteValued as _;

use super::told::Told;
use crate::boot::acpi;
use crate::boot::error::BootError;
use crate::boot::space::{MapEntry, Space};

/// Puts the parameters of a kernel with this header into memory.
pub(super) fn place(
    space: &mut Space<'_>,
    header: setup_header,
    told: &Told,
) -> Result<u32, BootError> {
    let params = zero_page(space, header, told);
    space.place("Linux boot parameters", params.as_slice())
}

/// A page that starts from the kernel's own header.
fn zero_page(space: &Space<'_>, header: setup_header, told: &Told) -> boot_params {
    const UNDEFINED_LOADER: u8 = 0xff;
    let mut params = boot_params { hdr: header, ..boot_params::default() };
    params.hdr.type_of_loader = UNDEFINED_LOADER;
    params.hdr.cmd_line_ptr = told.cmdline;
    if let Some(initrd) = &told.initrd {
        params.hdr.ramdisk_image = initrd.start;
        params.hdr.ramdisk_size = initrd.end - initrd.start;
    }
    params.acpi_rsdp_addr = acpi::ROOT_POINTER.into();
    let mut e820_table = params.e820_table;
    for (entry, part) in e820_table.iter_mut().zip(space.map()) {
        let MapEntry { range, kind } = part;
        *entry = boot_e820_entry { addr: range.start, size: range.end - range.start, r#type: kind };
        params.e820_entries += 1;
    }
    params.e820_table = e820_table;
    params
}
