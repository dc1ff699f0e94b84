//! Counts of MSR accesses: written by one vCPU each without a lock, readable
//! by anybody at any time, bounded whatever the guest does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use wasmsr_interface::{MsrIndex, MsrOp};

use crate::latency::{Histogram, Latency, add};
use crate::msr::SlotId;

/// Rows of one vCPU for MSRs. A guest that walks through more than this finds the
/// rest counted together, by who answers.
const ROWS: usize = 1024;

/// Rows beyond which none is added, so that probing stays short.
const FULL: usize = ROWS * 3 / 4;

/// The first accesses that come to a row are all timed, later ones are sampled:
/// reading the clock twice costs more than a plugin's call.
const ALL_TIMED: u64 = 64;

/// After that one of so many is timed, and counts for all of them.
const SAMPLE: u64 = 64;

/// What became of the accesses to one MSR, answered by one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MsrCounts {
    /// The MSR; `None` for the sum of those that found no row, and for what the
    /// plugin did at no access.
    pub index: Option<MsrIndex>,
    /// Who answered; `None` where it was left to the policy.
    pub plugin: Option<Arc<str>>,
    /// `rdmsr`s.
    pub reads: u64,
    /// `wrmsr`s.
    pub writes: u64,
    /// Accesses that ended with #GP, as far as the engine decided it.
    pub faults: u64,
    /// Accesses that `on-failure` answered, since the plugin trapped, overran a
    /// limit, or rests after it did so; and at no access, timers, resets and
    /// reports that failed so.
    pub failures: u64,
    /// Times of accesses in the engine and its plugins: about as many as there
    /// were, though only a sample was timed.
    pub latency: Latency,
    /// Fuel that the plugin used for those of them of which it is known...
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
    /// Names by slot.
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

    /// The counts so far, summed over vCPUs, by MSR and then plugin. Behind them,
    /// by plugin, is what has no MSR.
    pub fn msrs(&self) -> Vec<MsrCounts> {
        type Order = (bool, Option<MsrIndex>, Option<Arc<str>>);
        let mut sums: BTreeMap<Order, MsrCounts> = BTreeMap::new();
        for (index, slot, row) in self.vcpus.iter().flat_map(|counters| counters.rows()) {
            // A plugin that passes everything on has rows, but no accesses.
            if row.is_used() {
                let plugin = slot.and_then(|slot| self.plugins.get(usize::from(slot.0)));
                let sum = sums.entry((index.is_none(), index, plugin.cloned())).or_default();
                sum.add(&row.read());
            }
        }
        let rows = sums.into_iter();
        rows.map(|((_, index, plugin), sum)| MsrCounts { index, plugin, ..sum }).collect()
    }
}

/// Which row: the MSR and who answered.
#[derive(Debug, Clone, Copy)]
struct Key {
    index: MsrIndex,
    slot: Option<SlotId>,
}

impl Key {
    /// Never 0, which marks a free row.
    fn bits(self) -> u64 {
        let slot = self.slot.map_or(1, |slot| 2 + u64::from(slot.0));
        slot << 32 | u64::from(self.index.0)
    }

    fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of `bits`")]
        let (index, slot) = (MsrIndex(bits as u32), ((bits >> 32) as u16).checked_sub(2));
        Key { index, slot: slot.map(SlotId) }
    }
}

/// One vCPU's counters. Only its own thread writes.
pub(crate) struct Counters {
    rows: Box<[Row]>,
    used: AtomicU64,
    /// For what has no row of its own, by slot, so that no guest can hide a
    /// plugin by filling the table.
    slots: Box<[Row]>,
    /// The same for the policy.
    policy: Row,
}

/// A cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(crate) struct Row {
    key: AtomicU64,
    /// Accesses that came here first, whoever answered them then.
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
pub(crate) struct Sample {
    began: Instant,
    /// How many accesses it counts for.
    weight: u64,
    taken: Duration,
    fuel: Option<u64>,
}

impl Sample {
    /// An answer is there. `fuel` is read after the clock, being no part of it.
    #[inline]
    pub(crate) fn answered(&mut self, fuel: impl FnOnce() -> Option<u64>) {
        self.taken = self.began.elapsed();
        self.fuel = fuel();
    }
}

impl Counters {
    pub(crate) fn new(slots: usize) -> Self {
        let rows = |count| std::iter::repeat_with(Row::default).take(count).collect();
        Counters {
            rows: rows(ROWS),
            used: AtomicU64::new(0),
            slots: rows(slots),
            policy: Row::default(),
        }
    }

    /// The row for an MSR and who answers it; a shared one when all are taken.
    #[inline]
    pub(crate) fn row(&self, index: MsrIndex, slot: Option<SlotId>) -> &Row {
        let key = Key { index, slot }.bits();
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
        self.without_msr(Key::from_bits(key).slot)
    }

    /// The row for what has no MSR, or whose MSR has no row.
    pub(crate) fn without_msr(&self, slot: Option<SlotId>) -> &Row {
        let row = slot.and_then(|slot| self.slots.get(usize::from(slot.0)));
        row.unwrap_or(&self.policy)
    }

    /// All rows, with whom they count.
    fn rows(&self) -> impl Iterator<Item = (Option<MsrIndex>, Option<SlotId>, &Row)> {
        let of_msrs = self.rows.iter().map(|row| {
            let Key { index, slot } = Key::from_bits(row.key.load(Relaxed));
            (Some(index), slot, row)
        });
        let slots = (0..).map(SlotId).zip(&self.slots);
        let of_slots = slots.map(|(slot, row)| (None, Some(slot), row));
        of_msrs.chain(of_slots).chain([(None, None, &self.policy)])
    }
}

impl Row {
    /// An access comes here first. Begins its sample, if it is to be timed; whoever
    /// answers it then gets the time. So it is this row that counts which are:
    /// who will answer is not known yet.
    #[inline]
    pub(crate) fn sample(&self) -> Option<Sample> {
        let before = self.came.load(Relaxed);
        self.came.store(before.wrapping_add(1), Relaxed);
        let weight = match before {
            0..ALL_TIMED => 1,
            // The last of those it counts for, so that never more are counted
            // than came.
            _ if before % SAMPLE == SAMPLE - 1 => SAMPLE,
            _ => return None,
        };
        Some(Sample { began: Instant::now(), weight, taken: Duration::ZERO, fuel: None })
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
    pub(crate) fn cost(&self, sample: &Sample) {
        let cost = self.cost.get_or_init(Box::default);
        cost.latency.add(sample.taken, sample.weight);
        if let Some(fuel) = sample.fuel {
            add(&cost.fuel, fuel.saturating_mul(sample.weight));
            add(&cost.metered, sample.weight);
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

    fn is_used(&self) -> bool {
        [&self.reads, &self.writes, &self.failures].iter().any(|count| count.load(Relaxed) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two plugins, on so many vCPUs.
    fn metrics(vcpus: usize) -> Metrics {
        Metrics {
            vcpus: (0..vcpus).map(|_| Arc::new(Counters::new(2))).collect(),
            plugins: Arc::from([Arc::from("p"), Arc::from("q")]),
        }
    }

    fn whom(row: &MsrCounts) -> (Option<u32>, Option<&str>) {
        (row.index.map(|index| index.0), row.plugin.as_deref())
    }

    #[test]
    fn counts_are_summed_over_vcpus() {
        let metrics = metrics(2);
        for counters in &metrics.vcpus {
            counters.row(MsrIndex(0x10a), Some(SlotId(0))).count(MsrOp::Read);
            counters.row(MsrIndex(0x10a), None).count(MsrOp::Write(0));
        }
        let rows = metrics.msrs();
        assert_eq!(rows.len(), 2);
        assert_eq!((whom(&rows[0]), rows[0].writes), ((Some(0x10a), None), 2));
        assert_eq!((whom(&rows[1]), rows[1].reads), ((Some(0x10a), Some("p")), 2));
    }

    #[test]
    fn a_guest_that_walks_through_all_msrs_fills_a_bounded_table() {
        let metrics = metrics(1);
        for index in 0..10_000 {
            metrics.vcpus[0].row(MsrIndex(index), None).count(MsrOp::Read);
        }
        let rows = metrics.msrs();
        assert_eq!(rows.len(), FULL + 1);
        assert_eq!(rows.iter().map(|row| row.reads).sum::<u64>(), 10_000);
        assert_eq!(whom(rows.last().unwrap()), (None, None));
    }

    #[test]
    fn a_full_table_hides_no_plugin() {
        let metrics = metrics(2);
        for counters in &metrics.vcpus {
            for index in 0..10_000 {
                counters.row(MsrIndex(index), None).count(MsrOp::Read);
            }
            counters.row(MsrIndex(0x10a), Some(SlotId(1))).count(MsrOp::Read);
            counters.without_msr(Some(SlotId(0))).count_failure();
        }
        let rows = metrics.msrs();
        let last: Vec<_> =
            rows[FULL..].iter().map(|row| (whom(row), row.reads, row.failures)).collect();
        let policy = 2 * (10_000 - FULL as u64);
        let expected =
            [((None, None), policy, 0), ((None, Some("p")), 0, 2), ((None, Some("q")), 2, 0)];
        assert_eq!(last, expected);
    }

    #[test]
    fn a_row_fits_a_cache_line() {
        assert_eq!(size_of::<Row>(), 64);
    }

    #[test]
    fn a_sample_counts_for_all_that_came_since_the_one_before() {
        let row = Row::default();
        let weights: Vec<(u64, u64)> = (1..=300)
            .filter_map(|access| row.sample().map(|sample| (access, sample.weight)))
            .collect();
        let first = (1..=64).map(|access| (access, 1));
        assert_eq!(weights, first.chain([(128, 64), (192, 64), (256, 64)]).collect::<Vec<_>>());
    }

    #[test]
    fn what_accesses_cost_is_summed_over_vcpus_by_weight() {
        let metrics = metrics(2);
        for (counters, (weight, nanos, fuel)) in
            metrics.vcpus.iter().zip([(1, 300, Some(30)), (2, 150, None)])
        {
            let row = counters.row(MsrIndex(0x10a), Some(SlotId(0)));
            row.count(MsrOp::Read);
            let taken = Duration::from_nanos(nanos);
            row.cost(&Sample { began: Instant::now(), weight, taken, fuel });
        }
        let rows = metrics.msrs();
        assert_eq!((rows[0].latency.timed(), rows[0].metered), (3, 1));
        assert_eq!(rows[0].latency.mean(), Some(Duration::from_nanos(200)));
        assert_eq!(rows[0].mean_fuel(), Some(30), "of those that are known");
    }
}
