//! Bounds the number of rows and series. An MSR that has a row or series of its own
//! keeps it, so that no counter changes what it counts, and so that a guest that
//! probes MSRs takes no plugin's place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use wasmsr_engine::MsrCounts;
use wasmsr_interface::MsrIndex;

use crate::snapshot::OTHERS;

/// Most plugins with places of their own: a run may see many names, boot after boot and
/// swap after swap.
pub(crate) const MOST_PLUGINS: usize = 64;

/// The MSRs that are counted one by one, of each plugin and of the policy.
pub(crate) struct Cardinality {
    most: usize,
    msrs: BTreeMap<Option<Arc<str>>, BTreeSet<MsrIndex>>,
}

impl Cardinality {
    /// At most this many MSRs of each plugin.
    pub(crate) fn new(most: usize) -> Self {
        Cardinality { most, msrs: BTreeMap::new() }
    }

    /// The counts of the MSRs that have a place of their own; after them, without an
    /// MSR, the sum of the others, one per plugin and one for the policy. Plugins beyond
    /// the first [`MOST_PLUGINS`] are one, [`OTHERS`].
    pub(crate) fn bound(&mut self, mut counts: Vec<MsrCounts>) -> Vec<MsrCounts> {
        self.admit(&counts);
        let others: Arc<str> = OTHERS.into();
        for counts in &mut counts {
            if !self.has_plugin(counts.plugin.as_ref()) {
                counts.plugin = Some(others.clone());
            }
        }
        let mut rest: BTreeMap<Option<Arc<str>>, MsrCounts> = BTreeMap::new();
        counts.retain(|counts| {
            let has_own = self.has(counts);
            if !has_own {
                rest.entry(counts.plugin.clone()).or_default().add(counts);
            }
            has_own
        });
        counts.extend(rest.into_iter().map(|(plugin, sum)| MsrCounts { plugin, ..sum }));
        counts
    }

    /// Of MSRs that appear at the same time, the most frequent are first.
    fn admit(&mut self, counts: &[MsrCounts]) {
        let mut sorted: Vec<&MsrCounts> = counts.iter().collect();
        sorted.sort_by_key(|counts| Reverse(counts.accesses()));
        for counts in &sorted {
            self.admit_plugin(counts.plugin.as_ref());
        }
        for counts in sorted {
            let Some(index) = counts.index else { continue };
            if !self.has_plugin(counts.plugin.as_ref()) {
                continue;
            }
            let own = self.msrs.entry(counts.plugin.clone()).or_default();
            if own.len() < self.most {
                own.insert(index);
            }
        }
    }

    /// Whether a plugin has places of its own, from now on.
    pub(crate) fn admit_plugin(&mut self, plugin: Option<&Arc<str>>) -> bool {
        let is_there = self.has_plugin(plugin);
        let named = self.msrs.keys().flatten().count();
        if !is_there && named < MOST_PLUGINS {
            self.msrs.insert(plugin.cloned(), BTreeSet::new());
            return true;
        }
        is_there
    }

    /// The policy always has.
    fn has_plugin(&self, plugin: Option<&Arc<str>>) -> bool {
        plugin.is_none() || self.msrs.contains_key(&plugin.cloned())
    }

    fn has(&self, counts: &MsrCounts) -> bool {
        let own = self.msrs.get(&counts.plugin);
        counts.index.zip(own).is_some_and(|(index, own)| own.contains(&index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(index: u32, plugin: Option<&str>, reads: u64) -> MsrCounts {
        MsrCounts {
            index: Some(MsrIndex(index)),
            plugin: plugin.map(Into::into),
            reads,
            ..MsrCounts::default()
        }
    }

    fn told(counts: &[MsrCounts]) -> Vec<(Option<u32>, Option<&str>, u64)> {
        let mut told = Vec::new();
        for MsrCounts { index, plugin, reads, .. } in counts {
            told.push((index.map(|index| index.0), plugin.as_deref(), *reads));
        }
        told
    }

    #[test]
    fn a_guest_that_probes_takes_no_plugins_place() {
        let mut bounded = Cardinality::new(4);
        let swept = |of: Option<&'static str>| (0..100).map(move |msr| counts(msr, of, 9));
        bounded.bound(swept(None).chain(swept(Some("wide"))).collect());
        let late = bounded.bound(swept(None).chain([counts(0x1000, Some("late"), 1)]).collect());
        assert_eq!(
            told(&late)[3..],
            [(Some(3), None, 9), (Some(0x1000), Some("late"), 1), (None, None, 96 * 9)]
        );
    }

    #[test]
    fn the_most_frequent_get_a_row_and_keep_it() {
        let mut bounded = Cardinality::new(2);
        let first = bounded.bound(vec![counts(1, None, 1), counts(2, None, 5), counts(3, None, 7)]);
        assert_eq!(told(&first), [(Some(2), None, 5), (Some(3), None, 7), (None, None, 1)]);
        let then =
            bounded.bound(vec![counts(1, None, 900), counts(2, None, 5), counts(3, None, 7)]);
        assert_eq!(told(&then), [(Some(2), None, 5), (Some(3), None, 7), (None, None, 900)]);
    }

    #[test]
    fn what_the_engine_has_summed_already_joins_the_rest() {
        let mut bounded = Cardinality::new(1);
        let summed = MsrCounts { index: None, ..counts(0, Some("p"), 10) };
        let rows = bounded.bound(vec![counts(1, Some("p"), 5), counts(2, Some("p"), 1), summed]);
        assert_eq!(told(&rows), [(Some(1), Some("p"), 5), (None, Some("p"), 11)]);
    }
}
