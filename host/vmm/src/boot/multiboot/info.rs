//! The information structure that a multiboot guest finds in EBX.
//!
//! Multiboot specification 0.6.96, 3.3 "Boot information format".

use std::ops::Range;

use crate::boot::space::MapEntry;

/// What EAX holds at the guest's entry.
pub(super) const BOOTED: u32 = 0x2bad_b002;

/// The information structure, as far as it is filled.
#[derive(Debug)]
pub(super) struct Info {
    /// RAM in a row from address 0.
    pub(super) lower_bytes: u64,
    /// RAM in a row from 1 MiB, below 4 GiB.
    pub(super) upper_bytes: u64,
    pub(super) cmdline: u32,
    pub(super) modules: usize,
    pub(super) modules_at: u32,
    pub(super) map_bytes: usize,
    pub(super) map_at: u32,
    pub(super) loader_name: u32,
}

impl Info {
    /// As the guest reads it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        const MEMORY: u32 = 1 << 0;
        const CMDLINE: u32 = 1 << 2;
        const MODULES: u32 = 1 << 3;
        const MEMORY_MAP: u32 = 1 << 6;
        const LOADER_NAME: u32 = 1 << 9;
        const FLAGS: u32 = MEMORY | CMDLINE | MODULES | MEMORY_MAP | LOADER_NAME;
        const ABSENT: u32 = 0;
        #[rustfmt::skip]
        let fields = [
            FLAGS,
            kib(self.lower_bytes), kib(self.upper_bytes),
            ABSENT, // boot device
            self.cmdline,
            word(self.modules), self.modules_at,
            ABSENT, ABSENT, ABSENT, ABSENT, // symbols
            word(self.map_bytes), self.map_at,
            ABSENT, ABSENT, // drives
            ABSENT, // configuration table
            self.loader_name,
            ABSENT, // APM table
            ABSENT, ABSENT, ABSENT, ABSENT, // VBE
        ];
        fields.into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// One entry of the memory map.
pub(super) fn map_entry(part: &MapEntry) -> Vec<u8> {
    const SIZE_WITHOUT_THIS_FIELD: u32 = 20;
    let MapEntry { range, kind } = part;
    [
        &SIZE_WITHOUT_THIS_FIELD.to_le_bytes()[..],
        &range.start.to_le_bytes(),
        &(range.end - range.start).to_le_bytes(),
        &kind.to_le_bytes(),
    ]
    .concat()
}

/// One entry of the module list.
pub(super) fn module_entry(lies: &Range<u32>, string: u32) -> Vec<u8> {
    const RESERVED: u32 = 0;
    [lies.start, lies.end, string, RESERVED].into_iter().flat_map(u32::to_le_bytes).collect()
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes / 1024).unwrap_or(u32::MAX)
}

/// A number of things that lie in guest memory, and so are few.
fn word(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
