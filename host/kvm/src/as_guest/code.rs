//! The page of code of the second VM: one instruction, then a port access that tells
//! whether it was a #GP.

/// Segments, interrupt descriptors and code, for a flat 32-bit machine.
#[derive(Debug)]
pub(crate) struct Code {
    bytes: [u8; LENGTH],
}

/// The port after an instruction that was carried out, and after one that faulted.
pub(crate) const CARRIED_OUT: u16 = 0xf0;
pub(crate) const FAULTED: u16 = 0xf1;

/// Offsets in the page.
pub(crate) const GDT: u64 = 0;
pub(crate) const IDT: u64 = 0x40;
const HANDLER: u64 = 0x180;
pub(crate) const RDMSR: u64 = 0x190;
pub(crate) const WRMSR: u64 = 0x1a0;
const LENGTH: usize = 0x1b0;
/// Grows down from the end of the page.
pub(crate) const STACK: u64 = 0x1000;

pub(crate) const GDT_LIMIT: u16 = 3 * 8 - 1;
/// Vectors 0 to 31, which the processor uses itself.
pub(crate) const IDT_LIMIT: u16 = 32 * 8 - 1;
pub(crate) const CODE_SELECTOR: u16 = 0x8;
pub(crate) const DATA_SELECTOR: u16 = 0x10;

/// Flat, 4 GiB, 32-bit: code that is read and executed, data that is written (SDM volume
/// 3, "Segment Descriptors").
const SEGMENTS: [u64; 3] = [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

impl Code {
    /// The content of a page at this guest-physical address below 4 GiB.
    pub(crate) fn at(page: u64) -> Self {
        let handler = page + HANDLER;
        // A 32-bit interrupt gate (SDM volume 3, "IDT Descriptors").
        let gate = (handler & 0xffff)
            | u64::from(CODE_SELECTOR) << 16
            | 0x8e00 << 32
            | (handler & 0xffff_0000) << 32;
        let parts: [(u64, Vec<u8>); 5] = [
            (GDT, SEGMENTS.iter().flat_map(|entry| entry.to_le_bytes()).collect()),
            (IDT, std::iter::repeat_n(gate.to_le_bytes(), 32).flatten().collect()),
            // out FAULTED, al
            (HANDLER, vec![0xe6, 0xf1]),
            // rdmsr; out CARRIED_OUT, al
            (RDMSR, vec![0x0f, 0x32, 0xe6, 0xf0]),
            // wrmsr; out CARRIED_OUT, al
            (WRMSR, vec![0x0f, 0x30, 0xe6, 0xf0]),
        ];
        let mut bytes = [0; LENGTH];
        for (offset, part) in parts {
            let targets = bytes.iter_mut().skip(usize::try_from(offset).unwrap_or(LENGTH));
            targets.zip(part).for_each(|(target, byte)| *target = byte);
        }
        Code { bytes }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
