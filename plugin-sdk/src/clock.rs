//! A clock for guests that compute time from the time-stamp counter: KVM's
//! pvclock and Hyper-V's reference TSC page.
//!
//! Both give the guest a straight line from the counter to a time, which it
//! evaluates without an exit. No line fits the host's clock for long, since
//! the counter's frequency is known to some hundred ppm and the host's clock is
//! itself adjusted; so the line is [steered](TscClock::steer) now and then.

mod rate;
mod scale;

use serde::{Deserialize, Serialize};

use crate::time::Moment;
use rate::Meter;
use scale::Scale;

/// If the line is further off the host's clock than this, it is set anew instead
/// of being bent.
const STEP_NS: u64 = 1_000_000_000;

/// When the line is to meet the host's clock.
const HORIZON_NS: u64 = 4_000_000_000;

/// How much the line may be bent, as a part of its slope: 500 ppm, what Linux
/// allows NTP (`MAXFREQ`).
const LARGEST_BEND: u64 = 2000;

/// A line from the time-stamp counter to nanoseconds, in the format of KVM's
/// `pvclock_vcpu_time_info` (Linux, `Documentation/virt/kvm/x86/msr.rst`):
///
/// ```text
/// ns = base_ns + (((tsc - base_tsc) << shift) * mul >> 32)
/// ```
///
/// where a negative shift is one to the right. The line follows the host's
/// monotonic clock and never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TscClock {
    base_tsc: u64,
    base_ns: u64,
    scale: Scale,
    /// The host's clock at the base.
    host_ns: u64,
    /// Offset of the line from the host's clock.
    ahead_ns: i64,
    meter: Meter,
}

impl TscClock {
    /// A line that begins at this moment, with the frequency that KVM names.
    ///
    /// A frequency of 0 means unknown: then the line is too slow until it is
    /// steered.
    pub fn start(now: Moment, tsc_khz: u32) -> TscClock {
        let meter = Meter::start(now, tsc_khz);
        TscClock {
            base_tsc: now.tsc,
            base_ns: now.ns,
            scale: meter.rate().bent(0, 1).unwrap_or_default(),
            host_ns: now.ns,
            ahead_ns: 0,
            meter,
        }
    }

    /// The time at a value of the counter; before the base, the time of the
    /// base.
    pub fn ns_at(&self, tsc: u64) -> u64 {
        let ticks = tsc.saturating_sub(self.base_tsc);
        self.base_ns.saturating_add(self.scale.ns(ticks))
    }

    /// Makes this moment the base of a new line that continues the old one and
    /// aims at the host's clock a few seconds later, with a slope at most 500
    /// ppm off the measured one.
    ///
    /// A line that is more than a second behind the host's clock steps forward.
    /// One that is more than a second ahead stays ahead: the counter went on
    /// while the host's clock stood still, as it does while the host is
    /// suspended. If the counter or the host's clock goes back, as they may when
    /// a VM is restored, the line does not.
    pub fn steer(&mut self, now: Moment) {
        let last = Moment { tsc: self.base_tsc, ns: self.host_ns };
        self.meter.observe(last, now);

        let elapsed = now.ns.saturating_sub(last.ns);
        let mut ns = match (now.tsc < last.tsc, now.ns < last.ns) {
            (false, false) => self.ns_at(now.tsc),
            // The latest time that the guest may have read from the old line.
            (true, false) => self.base_ns.saturating_add(elapsed).saturating_add(elapsed / 512),
            (_, true) => self.base_ns,
        };
        let target = now.ns.saturating_add_signed(self.ahead_ns);
        if now.ns < last.ns || ns > target.saturating_add(STEP_NS) {
            self.ahead_ns = difference(ns, now.ns);
        } else if ns.saturating_add(STEP_NS) < target {
            ns = target;
        }
        self.base_tsc = now.tsc;
        self.base_ns = ns;
        self.host_ns = now.ns;

        // Longer than the time to the next steering, or the line would
        // overshoot.
        let horizon = elapsed.saturating_mul(2).max(HORIZON_NS);
        let bound = (horizon / LARGEST_BEND).cast_signed();
        let error = difference(now.ns.saturating_add_signed(self.ahead_ns), ns);
        if let Some(scale) = self.meter.rate().bent(error.clamp(-bound, bound), horizon) {
            self.scale = scale;
        }
    }

    /// Ensures that the time is at least this much from the base on, for
    /// instance what the guest read before it was saved.
    pub fn raise_to(&mut self, ns: u64) {
        if self.base_ns < ns {
            self.base_ns = ns;
            self.ahead_ns = difference(ns, self.host_ns);
        }
    }

    /// Where the line begins (`tsc_timestamp`).
    pub fn base_tsc(&self) -> u64 {
        self.base_tsc
    }

    /// The time there (`system_time`).
    pub fn base_ns(&self) -> u64 {
        self.base_ns
    }

    /// Nanoseconds for 2³² ticks, once these are shifted
    /// (`tsc_to_system_mul`). The highest bit is set.
    pub fn mul(&self) -> u32 {
        self.scale.mul()
    }

    /// Ticks are shifted by this much, to the left if positive (`tsc_shift`);
    /// from -31 to 31.
    pub fn shift(&self) -> i8 {
        self.scale.shift()
    }
}

/// `a - b`, as far as it fits.
fn difference(a: u64, b: u64) -> i64 {
    let magnitude = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a < b { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests;
