//! One row of counters, and the sample of an access that is timed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wasmsr_interface::MsrOp;

use super::counts::MsrCounts;
use super::latency::{Histogram, add};

/// The first accesses that come to a row are all timed, later ones are sampled:
/// reading the clock twice costs more than a plugin's call.
const ALL_TIMED: u64 = 64;

/// After that one of so many is timed, and counts for all of them.
const SAMPLE: u64 = 64;

/// A cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Row {
    pub(super) key: AtomicU64,
    /// Accesses that began here, also if another slot answered them then.
    came: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    faults: AtomicU64,
    failures: AtomicU64,
    cost: OnceLock<Box<Cost>>,
}

/// What is known of the accesses that were timed. Most rows are never used, so
/// each gets this with its first access.
#[derive(Default)]
struct Cost {
    latency: Histogram,
    fuel: AtomicU64,
    metered: AtomicU64,
}

/// An access that is timed.
pub(super) struct Sample {
    pub(super) began: Instant,
    /// How many accesses it counts for.
    pub(super) weight: u64,
    pub(super) taken: Duration,
    pub(super) fuel: Option<u64>,
}

impl Sample {
    /// Begins to time an access that counts for so many.
    #[cold]
    pub(super) fn begin(weight: u64) -> Self {
        Sample { began: Instant::now(), weight, taken: Duration::ZERO, fuel: None }
    }

    /// An answer is there. `fuel` is read after the clock, so that reading it is not
    /// timed.
    #[inline]
    pub(super) fn answered(&mut self, fuel: impl FnOnce() -> Option<u64>) {
        self.taken = self.began.elapsed();
        self.fuel = fuel();
    }
}

impl Row {
    /// An access begins in the row of its first claimant, which is not always the row
    /// that it ends in. If it is to be timed, says how many accesses it counts for.
    #[inline]
    pub(super) fn comes(&self) -> Option<u64> {
        let before = self.came.load(Relaxed);
        self.came.store(before.wrapping_add(1), Relaxed);
        match before {
            0..ALL_TIMED => Some(1),
            // The last of those it counts for, so that never more are counted
            // than came.
            _ if before % SAMPLE == SAMPLE - 1 => Some(SAMPLE),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn count(&self, op: MsrOp) {
        match op {
            MsrOp::Read => add(&self.reads, 1),
            MsrOp::Write(_) => add(&self.writes, 1),
        }
    }

    pub(super) fn count_fault(&self) {
        add(&self.faults, 1);
    }

    pub(super) fn count_failure(&self) {
        add(&self.failures, 1);
    }

    /// Notes what an access took: time, and fuel where a plugin answered it.
    #[cold]
    pub(super) fn cost(&self, sample: &Sample) {
        let cost = self.cost.get_or_init(Box::default);
        cost.latency.add(sample.taken, sample.weight);
        if let Some(fuel) = sample.fuel {
            add(&cost.fuel, fuel.saturating_mul(sample.weight));
            add(&cost.metered, sample.weight);
        }
    }

    /// The counts, without MSR and plugin.
    pub(super) fn read(&self) -> MsrCounts {
        let cost = self.cost.get();
        MsrCounts {
            index: None,
            plugin: None,
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            faults: self.faults.load(Relaxed),
            failures: self.failures.load(Relaxed),
            latency: cost.map(|cost| cost.latency.read()).unwrap_or_default(),
            fuel: cost.map_or(0, |cost| cost.fuel.load(Relaxed)),
            metered: cost.map_or(0, |cost| cost.metered.load(Relaxed)),
        }
    }

    pub(super) fn is_used(&self) -> bool {
        [&self.reads, &self.writes, &self.failures].iter().any(|count| count.load(Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_a_cache_line() {
        assert_eq!(size_of::<Row>(), 64);
    }

    #[test]
    fn a_sample_counts_for_all_that_came_since_the_one_before() {
        let row = Row::default();
        let weights: Vec<(u64, u64)> =
            (1..=300).filter_map(|access| row.comes().map(|weight| (access, weight))).collect();
        let first = (1..=64).map(|access| (access, 1));
        assert_eq!(weights, first.chain([(128, 64), (192, 64), (256, 64)]).collect::<Vec<_>>());
    }
}
