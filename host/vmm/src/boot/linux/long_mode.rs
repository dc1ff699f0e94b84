//! Entry by the 64-bit boot protocol: Documentation/arch/x86/boot.rst.

use linux_loader::loader::bootparam::setup_header;

use super::told::Told;
use super::zero_page;
use crate::boot::entry::{Entry, Long};
use crate::boot::error::BootError;
use crate::boot::space::Space;

/// Tells the kernel at `rip` what it needs to know.
pub(super) fn enter(
    space: &mut Space<'_>,
    rip: u64,
    header: setup_header,
    told: &Told,
) -> Result<Entry, BootError> {
    let gdt: Vec<u8> = Long::GDT.into_iter().flat_map(u64::to_le_bytes).collect();
    Ok(Entry::long(Long {
        rip,
        rsi: zero_page::place(space, header, told)?,
        cr3: place_page_tables(space)?,
        gdt: space.place("a GDT", &gdt)?,
    }))
}

/// Places tables that map the first 4 GiB to themselves, in pages of 2 MiB.
fn place_page_tables(space: &mut Space<'_>) -> Result<u32, BootError> {
    let tables = space.take_low("page tables", TABLES * PAGE, PAGE)?;
    space.write(tables.into(), &page_tables(tables.into()))?;
    Ok(tables)
}

/// A level-4 table, a level-3 table and four level-2 tables, from `at` on;
/// Intel SDM volume 3, 4.5.
fn page_tables(at: u64) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let table = |number: u64| (at + number * PAGE) | PRESENT_WRITABLE;
    let level4 = [table(1)].into_iter().chain([0; 511]);
    let level3 = (2..TABLES).map(table).chain([0; 508]);
    let level2 = (0..4 * 512).map(|page| page << 21 | LARGE | PRESENT_WRITABLE);
    level4.chain(level3).chain(level2).flat_map(u64::to_le_bytes).collect()
}

const PAGE: u64 = 4096;
const TABLES: u64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as a CPU does.
    fn translate(tables: &[u8], at: u64, address: u64) -> u64 {
        let entry = |table: u64, index: u64| {
            let offset = usize::try_from(table - at + index * 8).unwrap();
            let entry = u64::from_le_bytes(tables[offset..offset + 8].try_into().unwrap());
            assert_eq!(entry & 1, 1, "{address:#x} is not mapped");
            entry
        };
        let level3 = entry(at, address >> 39) & !0xfff;
        let level2 = entry(level3, address >> 30) & !0xfff;
        let page = entry(level2, address >> 21 & 511);
        assert_eq!(page & 0x80, 0x80);
        (page & !0x1f_ffff) | address & 0x1f_ffff
    }

    #[test]
    fn the_first_4_gib_are_mapped_to_themselves() {
        let tables = page_tables(0xb000);
        assert_eq!(tables.len() as u64, TABLES * PAGE);
        for address in [0, 0x1f_ffff, 0x20_0000, 0x100_0200, 0x4000_0000, 0xffff_ffff] {
            assert_eq!(translate(&tables, 0xb000, address), address);
        }
    }
}
