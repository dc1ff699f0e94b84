//! The BIOS data area: where firmware leaves, for guests that look into low memory,
//! how much of it there is and which ports there are.
//!
//! Ralf Brown's Interrupt List, MEMORY.LST, segment 0x40.

use super::error::BootError;
use super::space::{EBDA, Space};

/// Fills both data areas. To be called before a guest is loaded: one that loads itself
/// over them has them no more.
pub(super) fn write(space: &Space<'_>) -> Result<(), BootError> {
    space.write(ADDRESS, &bios_data())?;
    space.write(EBDA.start, &[EBDA_KIB])
}

const ADDRESS: u64 = 0x400;

/// The extended area begins with its own size.
const EBDA_KIB: u8 = 1;

/// The words that are not zero. No disk, no display, no parallel port.
fn bios_data() -> [u8; 0x100] {
    const COM1: u16 = 0x3f8;
    const FLOATING_POINT: u16 = 1 << 1;
    const ONE_SERIAL_PORT: u16 = 1 << 9;
    /// The keyboard buffer, from 0x40:0x1e to 0x40:0x3e, is empty.
    const BUFFER: u16 = 0x1e;
    const BUFFER_END: u16 = 0x3e;
    let words = [
        (0x00, COM1),
        (0x0e, segment(EBDA.start)),
        (0x10, FLOATING_POINT | ONE_SERIAL_PORT),
        (0x13, kib(EBDA.start)),
        (0x1a, BUFFER),
        (0x1c, BUFFER),
        (0x80, BUFFER),
        (0x82, BUFFER_END),
    ];
    let mut area = [0; 0x100];
    for (at, word) in words {
        if let Some(place) = area.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *place = u16::to_le_bytes(word);
        }
    }
    area
}

/// Of an address below 1 MiB.
fn segment(address: u64) -> u16 {
    u16::try_from(address >> 4).unwrap_or(u16::MAX)
}

/// Of an address below 1 MiB.
fn kib(bytes: u64) -> u16 {
    u16::try_from(bytes >> 10).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

    use super::*;

    #[test]
    fn a_guest_finds_low_memory_and_its_serial_port() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let space = Space::new(&memory);
        write(&space).unwrap();
        let word = |at| memory.read_obj::<u16>(GuestAddress(at)).unwrap();
        assert_eq!((word(0x400), word(0x402)), (0x3f8, 0), "COM1, and no COM2");
        assert_eq!(word(0x408), 0, "no LPT1");
        assert_eq!((word(0x40e), word(0x413)), (0x9fc0, 639));
        assert_eq!(word(0x410), 0x202);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0x9_fc00)).unwrap(), 1);
    }

    #[test]
    fn the_memory_map_agrees_with_the_bios_data_area() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 2 << 20)]).unwrap();
        let space = Space::new(&memory);
        let map = space.map();
        let parts: Vec<_> = map.iter().map(|part| (part.range.clone(), part.kind)).collect();
        assert_eq!(
            parts,
            [
                (0..u64::from(kib(EBDA.start)) << 10, 1),
                (0x9_fc00..0xa_0000, 2),
                (0xe_0000..0x10_0000, 2),
                (0x10_0000..0x20_0000, 1),
            ]
        );
    }
}
