//! The counts of a boot over the sets that were in charge in it: they only grow, and
//! their number is bounded.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmsr_engine::MsrCounts;
use wasmsr_interface::MsrIndex;

use crate::cardinality::Cardinality;

/// Most MSRs with rows of their own, of each plugin and of the policy.
const MOST_ROWS: usize = 256;

/// What the former sets of a boot have counted, and which MSRs have rows. A row stays,
/// since rates are differences of rows.
pub(crate) struct BootCounts {
    former: Vec<MsrCounts>,
    rows: Cardinality,
}

impl BootCounts {
    pub(crate) fn new() -> Self {
        BootCounts { former: Vec::new(), rows: Cardinality::new(MOST_ROWS) }
    }

    /// The counts of the boot, with these of the set in charge.
    pub(crate) fn with(&mut self, current: Vec<MsrCounts>) -> Vec<MsrCounts> {
        let mut counts = current;
        counts.extend(self.former.iter().cloned());
        summed(self.rows.bound(summed(counts)))
    }

    /// The set in charge has been replaced; this is what it had counted.
    pub(crate) fn keep(&mut self, counts: Vec<MsrCounts>) {
        self.former = self.with(counts);
    }
}

/// One entry for each MSR and plugin, by MSR and then plugin; at the end those without
/// an MSR.
fn summed(counts: Vec<MsrCounts>) -> Vec<MsrCounts> {
    type Order = (bool, Option<MsrIndex>, Option<Arc<str>>);
    let mut sums: BTreeMap<Order, MsrCounts> = BTreeMap::new();
    for counts in counts {
        let order = (counts.index.is_none(), counts.index, counts.plugin.clone());
        sums.entry(order).or_default().add(&counts);
    }
    let sums = sums.into_iter();
    sums.map(|((_, index, plugin), sum)| MsrCounts { index, plugin, ..sum }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cardinality::MOST_PLUGINS;
    use crate::snapshot::OTHERS;

    fn counts(index: u32, plugin: &str, reads: u64) -> MsrCounts {
        MsrCounts {
            index: Some(MsrIndex(index)),
            plugin: Some(plugin.into()),
            reads,
            ..MsrCounts::default()
        }
    }

    fn told(counts: &[MsrCounts]) -> Vec<(Option<u32>, Option<&str>, u64)> {
        let told = |it: &MsrCounts| (it.index.map(|index| index.0), it.reads);
        counts.iter().map(|it| (told(it).0, it.plugin.as_deref(), told(it).1)).collect()
    }

    #[test]
    fn counts_go_on_over_a_swap() {
        let mut boot = BootCounts::new();
        boot.keep(vec![counts(0x10, "p", 5), counts(0x11, "gone", 3)]);
        let now = boot.with(vec![counts(0x10, "p", 2), counts(0x12, "new", 1)]);
        assert_eq!(
            told(&now),
            [
                (Some(0x10), Some("p"), 7),
                (Some(0x11), Some("gone"), 3),
                (Some(0x12), Some("new"), 1)
            ]
        );
    }

    #[test]
    fn ten_thousand_swaps_grow_nothing_and_lose_no_count() {
        let mut boot = BootCounts::new();
        let (mut accesses, mut most) = (0, 0);
        for swap in 0..10_000_u32 {
            // The same two plugins, another one each time, and a guest that probes.
            let named = format!("p{swap}");
            boot.keep(vec![
                counts(0x10, "a", 1),
                counts(0x11, "b", 1),
                counts(swap, &named, 1),
                counts(swap, "a", 1),
            ]);
            accesses += 4;
            let rows = boot.with(Vec::new());
            most = most.max(rows.len());
            if swap % 1000 == 0 {
                assert_eq!(rows.iter().map(|row| row.reads).sum::<u64>(), accesses);
            }
        }
        assert!(most <= MOST_ROWS + 2 * MOST_PLUGINS + 2, "{most} rows");
        let rows = boot.with(Vec::new());
        let others = rows.iter().filter(|row| row.plugin.as_deref() == Some(OTHERS)).count();
        assert_eq!(others, 1, "the plugins without a place are one row");
        assert!(told(&rows).contains(&(Some(0x11), Some("b"), 10_000)));
    }
}
