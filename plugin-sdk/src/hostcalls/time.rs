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

/// Whether the guest's time-stamp counters agree on all vCPUs and will continue
/// to, as KVM says of its own clock (KVM api 4.29, `KVM_CLOCK_TSC_STABLE`). It
/// may change while the guest runs.
pub fn tsc_is_stable() -> bool {
    raw::tsc_is_stable() != 0
}

/// Nanoseconds of the host's monotonic clock since the VM was built.
pub fn monotonic_ns() -> u64 {
    raw::monotonic_ns()
}

/// Nanoseconds of the host's time of day since 1970, UTC.
pub fn realtime_ns() -> u64 {
    raw::realtime_ns()
}

/// One moment on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// [`tsc`]
    pub tsc: u64,
    /// [`monotonic_ns`]
    pub ns: u64,
}

/// Now, on both clocks. The host may be interrupted between the two readings;
/// the closest of a few attempts is taken.
pub fn now() -> Moment {
    const ATTEMPTS: u32 = 3;

    let mut before = raw::monotonic_ns();
    let mut closest: Option<(u64, Moment)> = None;
    for _ in 0..ATTEMPTS {
        let tsc = raw::tsc();
        let after = raw::monotonic_ns();
        let gap = after.saturating_sub(before);
        if closest.is_none_or(|(smallest, _)| gap < smallest) {
            closest = Some((gap, Moment { tsc, ns: before + gap / 2 }));
        }
        before = after;
    }
    closest.map_or(Moment { tsc: 0, ns: before }, |(_, moment)| moment)
}
