//! Guest memory while a boot fills it.

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::error::BootError;
use super::file::GuestFile;
use super::taken::Taken;

/// Guest memory, with a record of what is taken.
///
/// The memory must be fresh: what is not written is zero.
pub(super) struct Space<'m> {
    memory: &'m GuestMemoryMmap,
    /// What a guest may use, ascending.
    ram: Vec<Range<u64>>,
    free: Vec<Range<u64>>,
}

/// Which of the places that are large enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefer {
    Lowest,
    Highest,
}

/// Between conventional and extended memory a PC has firmware's own data, video
/// memory and firmware; guests do not look for RAM there.
pub(super) const FIRMWARE_HOLE: Range<u64> = EBDA.start..0x10_0000;

/// The extended BIOS data area: the last KiB in front of video memory.
pub(super) const EBDA: Range<u64> = 0x9_fc00..0xa_0000;

/// Tables, and on a PC the firmware itself.
const ROM: Range<u64> = 0xe_0000..0x10_0000;

/// A part of the memory map. E820, multiboot and PVH have the same numbers for its
/// kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapEntry {
    pub(super) range: Range<u64>,
    pub(super) kind: u32,
}

const RAM: u32 = 1;
const RESERVED: u32 = 2;

/// Where a loader's own tables may start: above the real-mode vectors, and
/// above where guests put the code that starts their other CPUs.
const TABLES: u64 = 0x9000;

const FOUR_GIB: u64 = 1 << 32;

impl<'m> Space<'m> {
    /// All of `memory`, nothing taken.
    pub(super) fn new(memory: &'m GuestMemoryMmap) -> Self {
        let mut ram: Vec<_> = memory
            .iter()
            .map(|region| {
                let start = region.start_addr().0;
                start..start.saturating_add(region.len())
            })
            .collect();
        cut(&mut ram, &FIRMWARE_HOLE);
        Self { memory, free: ram.clone(), ram }
    }

    pub(super) fn memory(&self) -> &'m GuestMemoryMmap {
        self.memory
    }

    /// The memory map as firmware would give it, ascending.
    pub(super) fn map(&self) -> Vec<MapEntry> {
        let ram = self.ram.iter().map(|range| MapEntry { range: range.clone(), kind: RAM });
        let reserved = [EBDA, ROM].map(|range| MapEntry { range, kind: RESERVED });
        let mut map: Vec<_> = ram.chain(reserved).collect();
        map.sort_by_key(|part| part.range.start);
        map
    }

    /// End of the RAM that starts at 1 MiB.
    pub(super) fn extended_end(&self) -> u64 {
        let start = FIRMWARE_HOLE.end;
        self.ram.iter().find(|ram| ram.start == start).map_or(start, |ram| ram.end)
    }

    /// Takes a range of RAM.
    pub(super) fn take(&mut self, range: &Range<u64>) -> Result<(), Taken> {
        if !contains(&self.ram, range) {
            return Err(Taken::OutsideRam);
        }
        if !contains(&self.free, range) {
            return Err(Taken::Overlap);
        }
        cut(&mut self.free, range);
        Ok(())
    }

    /// Takes a free range of `bytes` that lies in `within` and below 4 GiB.
    pub(super) fn find(
        &mut self,
        bytes: u64,
        align: u64,
        within: &Range<u64>,
        prefer: Prefer,
    ) -> Option<u32> {
        let mut candidates = self.free.iter().filter_map(|free| {
            let first = free.start.max(within.start);
            let last = free.end.min(within.end).min(FOUR_GIB).checked_sub(bytes)?;
            let start = match prefer {
                Prefer::Lowest => first.checked_next_multiple_of(align)?,
                Prefer::Highest => last - last % align,
            };
            (first..=last).contains(&start).then_some(start)
        });
        let start = match prefer {
            Prefer::Lowest => candidates.next(),
            Prefer::Highest => candidates.next_back(),
        }?;
        cut(&mut self.free, &(start..start + bytes));
        u32::try_from(start).ok()
    }

    /// Writes into memory that was taken.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), BootError> {
        self.memory.write_slice(bytes, GuestAddress(at)).map_err(|error| BootError::Memory {
            at,
            bytes: bytes.len(),
            error,
        })
    }

    /// Takes memory for a table, low memory if there is any left.
    pub(super) fn take_low(
        &mut self,
        what: &'static str,
        bytes: u64,
        align: u64,
    ) -> Result<u32, BootError> {
        self.find(bytes, align, &(TABLES..FOUR_GIB), Prefer::Lowest)
            .ok_or(BootError::NoRoom { what, bytes })
    }

    /// Puts a table for the guest into low memory.
    pub(super) fn place(&mut self, what: &'static str, table: &[u8]) -> Result<u32, BootError> {
        const ALIGN: u64 = 16;
        let at = self.take_low(what, table.len() as u64, ALIGN)?;
        self.write(at.into(), table)?;
        Ok(at)
    }

    /// Puts a string for the guest into low memory.
    pub(super) fn place_string(&mut self, text: &str) -> Result<u32, BootError> {
        if text.contains('\0') {
            return Err(BootError::ZeroByte { text: text.to_owned() });
        }
        self.place("a command line", &[text.as_bytes(), &[0]].concat())
    }

    /// Puts a whole file into memory, at the start of a page.
    pub(super) fn place_file(
        &mut self,
        file: GuestFile,
        within: &Range<u64>,
        prefer: Prefer,
    ) -> Result<Range<u32>, BootError> {
        const PAGE: u64 = 4096;
        let GuestFile { path, mut file, bytes } = file;
        let range = self.find(bytes, PAGE, within, prefer).zip(u32::try_from(bytes).ok());
        let Some((start, length)) = range else {
            return Err(BootError::TooLarge { path, bytes });
        };
        self.memory
            .read_exact_volatile_from(GuestAddress(start.into()), &mut file, length as usize)
            .map_err(|error| BootError::Read { path, error: std::io::Error::other(error) })?;
        Ok(start..start + length)
    }
}

fn contains(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
    ranges.iter().any(|r| r.start <= range.start && range.end <= r.end)
}

/// Removes `hole` from ranges that ascend.
fn cut(ranges: &mut Vec<Range<u64>>, hole: &Range<u64>) {
    *ranges = ranges
        .iter()
        .flat_map(|r| [r.start..r.end.min(hole.start), r.start.max(hole.end)..r.end])
        .filter(|range| !range.is_empty())
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x20_0000)]).unwrap()
    }

    #[test]
    fn ram_leaves_out_the_firmware_hole() {
        let memory = memory();
        let space = Space::new(&memory);
        assert_eq!(space.ram, [0..0x9_fc00, 0x10_0000..0x20_0000]);
        assert_eq!(space.extended_end(), 0x20_0000);
    }

    #[test]
    fn a_range_is_given_once() {
        let memory = memory();
        let mut space = Space::new(&memory);
        assert_eq!(space.take(&(0x10_0000..0x10_1000)), Ok(()));
        assert_eq!(space.take(&(0x10_0fff..0x10_2000)), Err(Taken::Overlap));
        assert_eq!(space.take(&(0x9_f000..0x9_fc01)), Err(Taken::OutsideRam));
        assert_eq!(space.take(&(0x1f_f000..u64::MAX)), Err(Taken::OutsideRam));
        let all = 0..u64::MAX;
        assert_eq!(space.find(0x1000, 0x1000, &all, Prefer::Highest), Some(0x1f_f000));
        assert_eq!(space.find(1, 0x1000, &(0x10_0000..u64::MAX), Prefer::Lowest), Some(0x10_1000));
        assert_eq!(space.find(1, 0x1000, &(0x10_0000..u64::MAX), Prefer::Lowest), Some(0x10_2000));
        assert_eq!(space.find(u64::MAX, 1, &all, Prefer::Lowest), None);
    }

    #[test]
    fn nothing_is_placed_above_4_gib() {
        let memory = GuestMemoryMmap::from_ranges(&[
            (GuestAddress(0), 0x20_0000),
            (GuestAddress(FOUR_GIB), 0x20_0000),
        ])
        .unwrap();
        let mut space = Space::new(&memory);
        assert_eq!(space.find(0x1000, 1, &(0..u64::MAX), Prefer::Highest), Some(0x1f_f000));
        assert_eq!(space.find(1, 1, &(0x20_0000..u64::MAX), Prefer::Lowest), None);
    }
}
