//! The clocks. No capability is needed.

use crate::raw;

/// The guest's time-stamp counter on the vCPU that is being served, now.
pub fn tsc() -> u64 {
    raw::tsc()
}

/// Frequency of the guest's time-stamp counter, in kHz.
pub fn tsc_khz() -> u32 {
    raw::tsc_khz()
}

/// Nanoseconds of the host's monotonic clock since an arbitrary start.
pub fn monotonic_ns() -> u64 {
    raw::monotonic_ns()
}
