//! What KVM's filter can hold.

use wasmsr_interface::{MsrIndex, MsrRange};

/// Most ranges in one filter (`KVM_MSR_FILTER_MAX_RANGES`).
pub const MAX_RANGES: usize = 16;

/// Most MSRs in one range: 0x600 bytes of bitmap
/// (`KVM_MSR_FILTER_MAX_BITMAP_SIZE`).
pub const MAX_MSRS_PER_RANGE: u32 = 0x600 * 8;

/// The last MSR that a range can hold. The end of one with 0xffffffff wraps to 0 in
/// KVM, so that it matches nothing.
pub(super) const LAST_MSR: u32 = u32::MAX - 1;

/// The MSR that no range of a filter can hold.
pub fn highest() -> MsrIndex {
    MsrIndex(u32::MAX)
}

/// The x2APIC MSRs, which KVM never filters.
pub fn x2apic() -> MsrRange {
    const FIRST: MsrIndex = MsrIndex(0x800);
    const LAST: MsrIndex = MsrIndex(0x8ff);
    MsrRange::new(FIRST, LAST).unwrap_or(FIRST.into())
}
