//! Counts of MSR accesses: written by one vCPU each without a lock, readable
//! by anybody at any time, bounded whatever the guest does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Mean time of an access in the engine and its plugins, from samples.
    pub mean: Option<Duration>,
}

/// The counters of all vCPUs of a running VM.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) vcpus: Vec<Arc<Counters>>,
    /// Names by seat.
    pub(crate) plugins: Arc<[Arc<str>]>,
}

impl Metrics {
    /// The counts so far, summed over vCPUs, by MSR and then plugin.
    pub fn msrs(&self) -> Vec<MsrCounts> {
        let mut sums: std::collections::BTreeMap<(Option<Key>, Option<Arc<str>>), Sum> =
            std::collections::BTreeMap::new();
        for counters in &self.vcpus {
            // A plugin that passes everything on has rows, but no accesses.
            for row in counters.rows.iter().filter(|row| row.accesses() > 0) {
                let key = Key::from_bits(row.key.load(Relaxed));
                let plugin = key.seat.and_then(|seat| self.plugins.get(usize::from(seat.0)));
                let by_msr = Key { seat: None, ..key };
                sums.entry((Some(by_msr), plugin.cloned())).or_default().add(row);
            }
            if counters.other.accesses() > 0 {
                // Sorted behind all others.
                let last = Key { index: MsrIndex(u32::MAX), seat: Some(SeatId(u16::MAX)) };
                sums.entry((Some(last), None)).or_default().add(&counters.other);
            }
        }
        sums.into_iter()
            .map(|((key, plugin), sum)| MsrCounts {
                index: key.filter(|key| key.seat.is_none()).map(|key| key.index),
                plugin,
                reads: sum.reads,
                writes: sum.writes,
                faults: sum.faults,
                failures: sum.failures,
                mean: sum.nanos.checked_div(sum.timed).map(Duration::from_nanos),
            })
            .collect()
    }
}

/// Which row: the MSR and who answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

#[derive(Default)]
struct Sum {
    reads: u64,
    writes: u64,
    faults: u64,
    failures: u64,
    timed: u64,
    nanos: u64,
}

impl Sum {
    fn add(&mut self, row: &Row) {
        self.reads += row.reads.load(Relaxed);
        self.writes += row.writes.load(Relaxed);
        self.faults += row.faults.load(Relaxed);
        self.failures += row.failures.load(Relaxed);
        self.timed += row.timed.load(Relaxed);
        self.nanos += row.nanos.load(Relaxed);
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
    timed: AtomicU64,
    nanos: AtomicU64,
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

    pub(crate) fn time(&self, taken: Duration) {
        add(&self.timed, 1);
        add(&self.nanos, u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
    }

    fn accesses(&self) -> u64 {
        self.reads.load(Relaxed) + self.writes.load(Relaxed)
    }
}

/// There is one writer, so a plain load and store lose nothing, and cost a
/// tenth of a locked addition.
#[inline]
fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
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
}
