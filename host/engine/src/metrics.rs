//! Counts of MSR accesses: written by one vCPU each without a lock, readable
//! by anybody at any time, bounded whatever the guest does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::latency::{Latency, Recorder, add};
use crate::msr::{MsrIndex, MsrOp, SeatId};

/// Rows of one vCPU. A guest that walks through more MSRs than this finds the
/// rest counted together.
const ROWS: usize = 1024;

/// Rows beyond which none is added, so that probing stays short.
const FULL: usize = ROWS * 3 / 4;

/// The first accesses of a row are all timed, later ones are sampled: reading
/// the clock twice costs more than a plugin's call.
const ALL_TIMED: u64 = 64;

/// Every so many accesses after that.
const SAMPLE: u64 = 64;

/// What became of the accesses to one MSR, answered by one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MsrCounts {
    /// The MSR; `None` for the sum of those that found no row.
    pub index: Option<MsrIndex>,
    /// Who answered; `None` where it was left to the policy.
    pub plugin: Option<Arc<str>>,
    /// `rdmsr`s.
    pub reads: u64,
    /// `wrmsr`s.
    pub writes: u64,
    /// Accesses that ended with #GP, as far as the engine decided it.
    pub faults: u64,
    /// Calls that trapped or overran a limit.
    pub failures: u64,
    /// Times of accesses in the engine and its plugins, from samples.
    pub latency: Latency,
    /// Fuel that the plugin used for the accesses among these samples of which
    /// it is known...
    pub fuel: u64,
    /// ... and how many those are.
    pub metered: u64,
}

impl MsrCounts {
    /// Reads and writes.
    pub fn accesses(&self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// Fuel that an access takes on average, as far as it is known.
    pub fn mean_fuel(&self) -> Option<u64> {
        self.fuel.checked_div(self.metered)
    }

    /// Adds the counts of another row, whatever that is for.
    pub fn add(&mut self, other: &MsrCounts) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.faults = self.faults.saturating_add(other.faults);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.add(&other.latency);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.metered = self.metered.saturating_add(other.metered);
    }
}

/// The counters of all vCPUs of a running VM.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) vcpus: Vec<Arc<Counters>>,
    /// Names by seat.
    pub(crate) plugins: Arc<[Arc<str>]>,
}

impl Metrics {
    /// How many vCPUs there are.
    pub fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    /// Who may answer, in the order of the profile; a plugin with MSRs of both
    /// scopes is there twice.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.plugins.iter()
    }

    /// The counts so far, summed over vCPUs, by MSR and then plugin.
    pub fn msrs(&self) -> Vec<MsrCounts> {
        let mut sums: BTreeMap<(Option<MsrIndex>, Option<Arc<str>>), MsrCounts> = BTreeMap::new();
        let mut others = MsrCounts::default();
        for counters in &self.vcpus {
            // A plugin that passes everything on has rows, but no accesses.
            for row in counters.rows.iter().filter(|row| row.accesses() > 0) {
                let key = Key::from_bits(row.key.load(Relaxed));
                let plugin = key.seat.and_then(|seat| self.plugins.get(usize::from(seat.0)));
                let sum = sums.entry((Some(key.index), plugin.cloned())).or_default();
                sum.add(&row.read());
            }
            others.add(&counters.other.read());
        }
        let rows =
            sums.into_iter().map(|((index, plugin), sum)| MsrCounts { index, plugin, ..sum });
        rows.chain((others.accesses() > 0).then_some(others)).collect()
    }
}

/// Which row: the MSR and who answered.
#[derive(Debug, Clone, Copy)]
struct Key {
    index: MsrIndex,
    seat: Option<SeatId>,
}

impl Key {
    /// Never 0, which marks a free row.
    fn bits(self) -> u64 {
        let seat = self.seat.map_or(1, |seat| 2 + u64::from(seat.0));
        seat << 32 | u64::from(self.index.0)
    }

    fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of `bits`")]
        let (index, seat) = (MsrIndex(bits as u32), ((bits >> 32) as u16).checked_sub(2));
        Key { index, seat: seat.map(SeatId) }
    }
}

/// One vCPU's counters. Only its own thread writes.
pub(crate) struct Counters {
    rows: Box<[Row]>,
    used: AtomicU64,
    other: Row,
}

/// A cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Row {
    key: AtomicU64,
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
    latency: Recorder,
    fuel: AtomicU64,
    metered: AtomicU64,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Counters {
            rows: std::iter::repeat_with(Row::default).take(ROWS).collect(),
            used: AtomicU64::new(0),
            other: Row::default(),
        }
    }

    /// The row for an MSR and who answers it; a shared one when all are taken.
    #[inline]
    pub(crate) fn row(&self, index: MsrIndex, seat: Option<SeatId>) -> &Row {
        let key = Key { index, seat }.bits();
        // Fibonacci hashing: neighbouring MSRs spread over the table.
        let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % ROWS;
        match self.rows.get(home) {
            Some(row) if row.key.load(Relaxed) == key => row,
            _ => self.probe(key, home),
        }
    }

    /// The row of an MSR that is new, or displaced by another.
    #[cold]
    fn probe(&self, key: u64, home: usize) -> &Row {
        for probe in 0..ROWS {
            let Some(row) = self.rows.get((home + probe) % ROWS) else { break };
            match row.key.load(Relaxed) {
                found if found == key => return row,
                0 if self.used.load(Relaxed) < FULL as u64 => {
                    add(&self.used, 1);
                    row.key.store(key, Relaxed);
                    return row;
                }
                0 => break,
                _ => {}
            }
        }
        &self.other
    }
}

impl Row {
    /// Whether the next access should be timed.
    #[inline]
    pub(crate) fn wants_time(&self) -> bool {
        let accesses = self.accesses();
        accesses < ALL_TIMED || accesses.is_multiple_of(SAMPLE)
    }

    #[inline]
    pub(crate) fn count(&self, op: MsrOp) {
        match op {
            MsrOp::Read => add(&self.reads, 1),
            MsrOp::Write(_) => add(&self.writes, 1),
        }
    }

    pub(crate) fn count_fault(&self) {
        add(&self.faults, 1);
    }

    pub(crate) fn count_failure(&self) {
        add(&self.failures, 1);
    }

    /// Notes what an access took: time, and fuel where a plugin answered it.
    #[cold]
    pub(crate) fn cost(&self, taken: Duration, fuel: Option<u64>) {
        let cost = self.cost.get_or_init(Box::default);
        cost.latency.add(taken);
        if let Some(fuel) = fuel {
            add(&cost.fuel, fuel);
            add(&cost.metered, 1);
        }
    }

    /// The counts, of nobody in particular.
    fn read(&self) -> MsrCounts {
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

    fn accesses(&self) -> u64 {
        self.reads.load(Relaxed) + self.writes.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_vcpus() {
        let metrics = Metrics {
            vcpus: vec![Arc::new(Counters::new()), Arc::new(Counters::new())],
            plugins: Arc::from([Arc::from("p")]),
        };
        for counters in &metrics.vcpus {
            counters.row(MsrIndex(0x10a), Some(SeatId(0))).count(MsrOp::Read);
            counters.row(MsrIndex(0x10a), None).count(MsrOp::Write(0));
        }
        let rows = metrics.msrs();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].plugin.clone(), rows[0].writes), (None, 2));
        assert_eq!((rows[1].plugin.as_deref(), rows[1].reads), (Some("p"), 2));
        assert_eq!(rows[1].index, Some(MsrIndex(0x10a)));
    }

    #[test]
    fn a_guest_that_walks_through_all_msrs_fills_a_bounded_table() {
        let counters = Counters::new();
        for index in 0..10_000 {
            counters.row(MsrIndex(index), None).count(MsrOp::Read);
        }
        let metrics = Metrics { vcpus: vec![Arc::new(counters)], plugins: Arc::from([]) };
        let rows = metrics.msrs();
        assert_eq!(rows.len(), FULL + 1);
        assert_eq!(rows.iter().map(|row| row.reads).sum::<u64>(), 10_000);
        assert_eq!(rows.last().unwrap().index, None);
    }

    #[test]
    fn a_row_fits_a_cache_line() {
        assert_eq!(size_of::<Row>(), 64);
    }

    #[test]
    fn what_accesses_cost_is_summed_over_vcpus() {
        let metrics = Metrics {
            vcpus: vec![Arc::new(Counters::new()), Arc::new(Counters::new())],
            plugins: Arc::from([Arc::from("p")]),
        };
        for (counters, fuel) in metrics.vcpus.iter().zip([Some(30), None]) {
            let row = counters.row(MsrIndex(0x10a), Some(SeatId(0)));
            row.count(MsrOp::Read);
            row.cost(Duration::from_nanos(200), fuel);
        }
        let rows = metrics.msrs();
        assert_eq!((rows[0].latency.timed(), rows[0].metered), (2, 1));
        assert_eq!(rows[0].mean_fuel(), Some(30), "of those that are known");
    }
}
