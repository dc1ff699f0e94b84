//! Entry by the 32-bit boot protocol: Documentation/arch/x86/boot.rst.

use linux_loader::loader::bootparam::setup_header;

use super::told::Told;
use super::zero_page;
use crate::boot::entry::{Entry, LinuxProtected};
use crate::boot::error::BootError;
use crate::boot::space::Space;

/// Tells the kernel at `eip` what it needs to know.
pub(super) fn enter(
    space: &mut Space<'_>,
    eip: u32,
    header: setup_header,
    told: &Told,
) -> Result<Entry, BootError> {
    let gdt: Vec<u8> = LinuxProtected::GDT.into_iter().flat_map(u64::to_le_bytes).collect();
    Ok(Entry::linux_protected(LinuxProtected {
        eip,
        esi: zero_page::place(space, header, told)?,
        gdt: space.place("a GDT", &gdt)?,
    }))
}
