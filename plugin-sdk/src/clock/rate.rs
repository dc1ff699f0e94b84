//! The measured frequency of the counter, by the host's clock.

use serde::{Deserialize, Serialize};

use super::scale::Scale;
use crate::time::Moment;

/// A frequency is measured over this long, or up to twice as long: long compared
/// with the few microseconds between a moment's two clock readings, short
/// compared with the hours in which a host's NTP changes its frequency.
const WINDOW_NS: u64 = 16_000_000_000;

/// Shorter windows measure nothing.
const SHORTEST_NS: u64 = 500_000_000;

/// One of the clocks jumped if they differ, after a moment, by more than this
/// part of it and this time. Smaller differences do not spoil a window, since
/// bending the line makes up for them.
const JUMP_PART: u64 = 1000;
const JUMP_NS: u64 = 5_000_000;

/// A measurement that is off KVM's frequency by more than this part is
/// discarded.
const PLAUSIBLE_PART: u64 = 4;

/// Used while KVM names no frequency. No counter runs faster, so the clock is
/// slow at first: it can be put forward, but not back.
const FASTEST_KHZ: u32 = 10_000_000;

/// This many nanoseconds for this many ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rate {
    ns: u64,
    ticks: u64,
}

impl Rate {
    fn nominal(khz: u32) -> Rate {
        Rate { ns: 1_000_000, ticks: if khz == 0 { FASTEST_KHZ } else { khz }.into() }
    }

    /// From the earlier moment to the later; `None` unless both clocks went on.
    fn between(from: Moment, to: Moment) -> Option<Rate> {
        let ns = to.ns.checked_sub(from.ns).filter(|ns| *ns > 0)?;
        let ticks = to.tsc.checked_sub(from.tsc).filter(|ticks| *ticks > 0)?;
        Some(Rate { ns, ticks })
    }

    /// How far this one is from another, in its own nanoseconds.
    fn off(self, other: Rate) -> u64 {
        let ns = u128::from(self.ticks) * u128::from(other.ns);
        let ns = ns.checked_div(other.ticks.into()).and_then(|ns| u64::try_from(ns).ok());
        ns.unwrap_or(u64::MAX).abs_diff(self.ns)
    }

    /// The slope that gains this many nanoseconds in the next `horizon`.
    pub(super) fn bent(self, gain: i64, horizon: u64) -> Option<Scale> {
        let gained = horizon.saturating_add_signed(gain);
        let ns = u128::from(self.ns) * u128::from(gained);
        Scale::from_ratio(ns, u128::from(self.ticks) * u128::from(horizon))
    }
}

/// Measures over the last [`WINDOW_NS`] and more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meter {
    khz: u32,
    rate: Rate,
    /// Whether the rate was measured in this window; otherwise it is KVM's, or
    /// that of the window before.
    measured: bool,
    from: Mark,
    /// Where the next window begins.
    next: Mark,
}

/// A [`Moment`] that can be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    tsc: u64,
    ns: u64,
}

impl From<Moment> for Mark {
    fn from(Moment { tsc, ns }: Moment) -> Self {
        Mark { tsc, ns }
    }
}

impl From<Mark> for Moment {
    fn from(Mark { tsc, ns }: Mark) -> Self {
        Moment { tsc, ns }
    }
}

impl Meter {
    pub(super) fn start(now: Moment, khz: u32) -> Meter {
        let (from, next) = (now.into(), now.into());
        Meter { khz, rate: Rate::nominal(khz), measured: false, from, next }
    }

    /// The rate that is known at present.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a moment into account, `last` being the one before.
    pub(super) fn observe(&mut self, last: Moment, now: Moment) {
        if now.tsc < last.tsc || now.ns < last.ns {
            return self.measure_from(now);
        }
        let jumped = |latest: Rate| latest.off(self.rate) > latest.ns / JUMP_PART + JUMP_NS;
        if self.measured && Rate::between(last, now).is_some_and(jumped) {
            return self.measure_from(now);
        }
        let found = Rate::between(self.from.into(), now);
        if let Some(found) = found.filter(|found| found.ns >= SHORTEST_NS) {
            if !self.is_plausible(found) {
                return self.measure_from(now);
            }
            self.rate = found;
            self.measured = true;
        }
        if now.ns.saturating_sub(self.next.ns) >= WINDOW_NS {
            self.from = self.next;
            self.next = now.into();
        }
    }

    /// Forgets the window, but not the rate it measured.
    fn measure_from(&mut self, now: Moment) {
        self.measured = false;
        self.from = now.into();
        self.next = now.into();
    }

    fn is_plausible(&self, found: Rate) -> bool {
        self.khz == 0 || found.off(Rate::nominal(self.khz)) <= found.ns / PLAUSIBLE_PART
    }
}
