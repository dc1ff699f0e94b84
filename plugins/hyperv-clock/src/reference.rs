//! The partition's reference time: TLFS, "Reference Counter".

use serde::{Deserialize, Serialize};
use wasmsr_sdk::clock::TscClock;
use wasmsr_sdk::time::{self, Moment};

use crate::line::{AIM_TICKS, Line};

/// Nanoseconds of a unit.
const UNIT_NS: u64 = 100;

/// A line is off the host's clock by less than this part: the 500 ppm by which
/// it is bent, plus the error of KVM's frequency.
const LARGEST_OFF: u64 = 512;

/// Units of 100 ns since the partition was created, by the host's clock, or by
/// the guest's time-stamp counter while the reference TSC page shows a line.
/// Every change from one to the other, or from one line to the next, continues
/// from the present time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ReferenceTime {
    /// The lowest time that may be returned, so that time never goes back.
    floor: u64,
    /// By how much the time is ahead of the host's clock.
    ahead_ns: u64,
    by_tsc: Option<ByTsc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ByTsc {
    clock: TscClock,
    line: Line,
    /// `IA32_TSC_ADJUST` of all vCPUs, which is in the line.
    adjust: u64,
    /// When the line began, by itself and by the host's clock.
    from: u64,
    host_ns: u64,
}

impl ByTsc {
    /// The time on a vCPU with this `IA32_TSC_ADJUST`.
    fn units_at(&self, now: Moment, adjust: u64) -> u64 {
        if adjust == self.adjust {
            return self.line.units_at(now.tsc);
        }
        let (least, most) = self.range_at(now);
        let units = self.line.units_at(now.tsc.wrapping_sub(adjust).wrapping_add(self.adjust));
        // Not every KVM (kvm_pvm is one that does not) adds to the counter what
        // is written to this MSR, so the host's clock bounds how much can have
        // passed.
        units.clamp(least, most)
    }

    /// The line's times that the host's clock allows.
    fn range_at(&self, now: Moment) -> (u64, u64) {
        let passed = now.ns.saturating_sub(self.host_ns) / UNIT_NS;
        let off = passed / LARGEST_OFF + 1;
        let least = self.from.saturating_add(passed.saturating_sub(off));
        (least, self.from.saturating_add(passed).saturating_add(off))
    }

    fn is_still_right(&self, now: Moment, adjust: u64) -> bool {
        let (least, most) = self.range_at(now);
        adjust == self.adjust
            && now.ns >= self.host_ns
            && (least..=most).contains(&self.line.units_at(now.tsc))
    }
}

impl ReferenceTime {
    /// The time, on a vCPU with this `IA32_TSC_ADJUST`. While the page shows a
    /// line, it is the page's time.
    pub(crate) fn now(&mut self, adjust: u64) -> u64 {
        let now = match &self.by_tsc {
            Some(by_tsc) => {
                let now = Moment { tsc: time::tsc(), ns: time::monotonic_ns() };
                by_tsc.units_at(now, adjust)
            }
            None => self.by_host(time::monotonic_ns()),
        };
        self.floor = self.floor.max(now);
        self.floor
    }

    /// The line to show; `None` while no line can be trusted.
    pub(crate) fn line(&self) -> Option<Line> {
        self.by_tsc.as_ref().map(|by_tsc| by_tsc.line)
    }

    /// Whether the time comes from the counter, with this `IA32_TSC_ADJUST`.
    pub(crate) fn is_by_tsc(&self, adjust: Option<u64>) -> bool {
        self.by_tsc.as_ref().is_some_and(|by_tsc| Some(by_tsc.adjust) == adjust)
    }

    /// Whether the line goes on as the host's clock does, as in the VM that it was made
    /// for; `adjust` is the `IA32_TSC_ADJUST` of the vCPU that is being served.
    pub(crate) fn is_still_right(&self, now: Moment, adjust: u64) -> bool {
        self.by_tsc.as_ref().is_some_and(|by_tsc| by_tsc.is_still_right(now, adjust))
    }

    /// From this moment on the time comes from a new line. `adjust` is the
    /// `IA32_TSC_ADJUST` of all vCPUs.
    pub(crate) fn follow_tsc(&mut self, now: Moment, adjust: u64) {
        let reached = self.reached(now, adjust);
        let clock = match self.by_tsc.take().filter(|by_tsc| by_tsc.adjust == adjust) {
            Some(mut by_tsc) => {
                by_tsc.clock.steer(now);
                by_tsc.clock
            }
            None => {
                let mut clock = TscClock::start(now, time::tsc_khz());
                clock.raise_to(reached.saturating_mul(UNIT_NS));
                clock
            }
        };
        let units = reached.max(clock.base_ns() / UNIT_NS);
        // A counter that is about to wrap cannot be followed.
        let aim_ns = now.tsc.checked_add(AIM_TICKS).map(|aim| clock.ns_at(aim));
        let line = aim_ns.and_then(|aim_ns| Line::through(now.tsc, units, aim_ns));
        let (from, host_ns) = (units, now.ns);
        self.by_tsc = line.map(|line| ByTsc { clock, line, adjust, from, host_ns });
        self.go_on_from(units, now);
    }

    /// From this moment on the time comes from the host's clock. `adjust` is the
    /// `IA32_TSC_ADJUST` of the vCPU that is being served.
    pub(crate) fn follow_host(&mut self, now: Moment, adjust: u64) {
        let reached = self.reached(now, adjust);
        self.by_tsc = None;
        self.go_on_from(reached, now);
    }

    /// Whether the time can have come this far.
    pub(crate) fn is_reachable(&self) -> bool {
        let is_time = |units: u64| units <= u64::MAX / UNIT_NS;
        is_time(self.floor)
            && self.by_tsc.as_ref().is_none_or(|ByTsc { clock, line, from, .. }| {
                is_time(*from) && line.units_at(clock.base_tsc()) == *from
            })
    }

    fn reached(&self, now: Moment, adjust: u64) -> u64 {
        let reached = match &self.by_tsc {
            Some(by_tsc) => by_tsc.units_at(now, adjust),
            None => self.by_host(now.ns),
        };
        reached.max(self.floor)
    }

    fn go_on_from(&mut self, units: u64, now: Moment) {
        self.floor = units;
        if self.by_tsc.is_none() {
            let ahead_ns = units.saturating_mul(UNIT_NS).saturating_sub(now.ns);
            self.ahead_ns = self.ahead_ns.max(ahead_ns);
        }
    }

    fn by_host(&self, ns: u64) -> u64 {
        ns.saturating_add(self.ahead_ns) / UNIT_NS
    }
}

#[cfg(test)]
mod tests;
