//! Counts of MSR accesses: written by one vCPU each without a lock, readable from
//! any thread at any time, bounded whatever the guest does.

mod counters;
mod counts;
mod latency;
mod meter;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use counters::Counters;
pub use counts::MsrCounts;
pub use latency::Latency;
pub(crate) use meter::Meter;
use wasmsr_interface::MsrIndex;

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

    /// The plugins, in the order of the profile; a plugin with MSRs of both scopes is
    /// there twice.
    pub fn plugins(&self) -> impl Iterator<Item = &Arc<str>> {
        self.plugins.iter()
    }

    /// Whether these are the same counters, not others with the same counts.
    pub fn are(&self, other: &Metrics) -> bool {
        let pairs = self.vcpus.iter().zip(&other.vcpus);
        self.vcpus.len() == other.vcpus.len() && pairs.into_iter().all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The counts so far, summed over vCPUs, by MSR and then plugin; at the end, by
    /// plugin, the counts without an MSR.
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use wasmsr_interface::MsrOp;

    use super::counters::FULL;
    use super::row::Sample;
    use super::*;
    use crate::msr::SlotId;

    /// Of two plugins, on so many vCPUs.
    fn metrics(vcpus: usize) -> Metrics {
        Metrics {
            vcpus: (0..vcpus).map(|_| Arc::new(Counters::new(2))).collect(),
            plugins: Arc::from([Arc::from("p"), Arc::from("q")]),
        }
    }

    fn key(row: &MsrCounts) -> (Option<u32>, Option<&str>) {
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
        assert_eq!((key(&rows[0]), rows[0].writes), ((Some(0x10a), None), 2));
        assert_eq!((key(&rows[1]), rows[1].reads), ((Some(0x10a), Some("p")), 2));
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
        assert_eq!(key(rows.last().unwrap()), (None, None));
    }

    #[test]
    fn a_full_table_hides_no_plugin() {
        let metrics = metrics(2);
        for counters in &metrics.vcpus {
            for index in 0..10_000 {
                counters.row(MsrIndex(index), None).count(MsrOp::Read);
            }
            counters.row(MsrIndex(0x10a), Some(SlotId(1))).count(MsrOp::Read);
            counters.failed_at_no_access(SlotId(0));
        }
        let rows = metrics.msrs();
        let last: Vec<_> =
            rows[FULL..].iter().map(|row| (key(row), row.reads, row.failures)).collect();
        let policy = 2 * (10_000 - FULL as u64);
        let expected =
            [((None, None), policy, 0), ((None, Some("p")), 0, 2), ((None, Some("q")), 2, 0)];
        assert_eq!(last, expected);
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
