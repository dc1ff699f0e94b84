//! The counts of a run over all its boots, as Prometheus wants them: they only
//! grow, and their number is bounded.

use std::collections::{BTreeMap, BTreeSet};

use wasmsr_engine::{MsrCounts, ShadowCounts};

use crate::cardinality::Cardinality;
use crate::snapshot::{OTHERS, POLICY};
use crate::sources::Sources;

/// Most MSRs with series of their own, of each plugin and of the policy.
pub(crate) const MOST_SERIES: usize = 128;

/// Most shadows with series of their own: a run may see many versions.
const MOST_SHADOWS: usize = 64;

/// The counts of all boots that have ended, and what has a series.
pub(crate) struct Totals {
    msrs: Cardinality,
    shadows: BTreeSet<ShadowKey>,
    past: Sums,
}

/// Counts of a run.
#[derive(Default, Clone)]
pub(crate) struct Sums {
    /// By MSR and plugin.
    pub(crate) pairs: BTreeMap<(String, String), MsrCounts>,
    pub(crate) plugins: BTreeMap<String, MsrCounts>,
    pub(crate) shadows: BTreeMap<ShadowKey, ShadowCounts>,
}

/// A shadow of one version, and the plugin in charge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShadowKey {
    pub(crate) shadow: String,
    pub(crate) of: String,
    pub(crate) version: String,
}

impl Default for Totals {
    fn default() -> Self {
        Totals {
            msrs: Cardinality::new(MOST_SERIES),
            shadows: BTreeSet::new(),
            past: Sums::default(),
        }
    }
}

impl Totals {
    /// A set takes charge: the series of its plugins are there from the start.
    pub(crate) fn expect(&mut self, sources: &Sources) {
        for plugin in sources.metrics.plugins() {
            if !self.msrs.admit_plugin(Some(plugin)) {
                continue;
            }
            self.past.plugins.entry(plugin.to_string()).or_default();
        }
    }

    /// A boot has ended.
    pub(crate) fn keep(&mut self, sources: &Sources) {
        self.keep_counts(sources.metrics.msrs(), &sources.shadows.counts());
    }

    /// These counters and shadows count no more.
    pub(crate) fn keep_counts(&mut self, msrs: Vec<MsrCounts>, shadows: &[ShadowCounts]) {
        let mut sums = std::mem::take(&mut self.past);
        self.add_msrs(&mut sums, msrs);
        self.add_shadows(&mut sums, shadows);
        self.past = sums;
    }

    /// The counts with those of the boot that runs.
    pub(crate) fn with(&mut self, current: Option<&Sources>) -> Sums {
        let mut sums = self.past.clone();
        if let Some(current) = current {
            self.add_msrs(&mut sums, current.metrics.msrs());
            self.add_shadows(&mut sums, &current.shadows.counts());
        }
        sums
    }

    fn add_msrs(&mut self, sums: &mut Sums, counts: Vec<MsrCounts>) {
        for counts in self.msrs.bound(counts) {
            let plugin = counts.plugin.as_deref().unwrap_or(POLICY).to_owned();
            let msr = counts.index.map_or(OTHERS.to_owned(), |index| index.to_string());
            sums.plugins.entry(plugin.clone()).or_default().add(&counts);
            sums.pairs.entry((msr, plugin)).or_default().add(&counts);
        }
    }

    fn add_shadows(&mut self, sums: &mut Sums, counts: &[ShadowCounts]) {
        for counts in counts {
            let key = ShadowKey {
                shadow: counts.plugin.clone(),
                of: counts.of.to_string(),
                version: counts.version.clone(),
            };
            let has_own = self.shadows.contains(&key)
                || (self.shadows.len() < MOST_SHADOWS && self.shadows.insert(key.clone()));
            let key = if has_own { key } else { ShadowKey::others() };
            sums.shadows.entry(key).or_default().add(counts);
        }
    }
}

impl ShadowKey {
    fn others() -> Self {
        let [shadow, of, version] = [(); 3].map(|()| OTHERS.to_owned());
        ShadowKey { shadow, of, version }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use wasmsr_interface::MsrIndex;

    use super::*;

    /// The sums after a look at these counts.
    pub(crate) fn sums_of(msrs: Vec<MsrCounts>, shadows: &[ShadowCounts]) -> Sums {
        let (mut totals, mut sums) = (Totals::default(), Sums::default());
        totals.add_msrs(&mut sums, msrs);
        totals.add_shadows(&mut sums, shadows);
        sums
    }

    fn reads(index: u32, plugin: Option<&str>, reads: u64) -> MsrCounts {
        MsrCounts {
            index: Some(MsrIndex(index)),
            plugin: plugin.map(Into::into),
            reads,
            ..MsrCounts::default()
        }
    }

    #[test]
    fn a_guest_that_sweeps_all_msrs_takes_no_plugins_series() {
        let mut totals = Totals::default();
        let mut sums = Sums::default();
        totals.add_msrs(&mut sums, (0..5000).map(|msr| reads(msr, None, 1)).collect());
        assert_eq!(sums.pairs.len(), MOST_SERIES + 1);
        totals.add_msrs(&mut sums, vec![reads(0x4b56_4d00, Some("clock"), 7)]);
        let of = |msr: &str, plugin: &str| {
            sums.pairs.get(&(msr.to_owned(), plugin.to_owned())).map(|counts| counts.reads)
        };
        assert_eq!(of("0x4b564d00", "clock"), Some(7));
        assert_eq!(of(OTHERS, POLICY), Some(5000 - MOST_SERIES as u64));
    }

    #[test]
    fn counters_go_on_over_boots() {
        let mut totals = Totals::default();
        let mut past = Sums::default();
        totals.add_msrs(&mut past, vec![reads(0x10, Some("p"), 9)]);
        totals.past = past;
        let mut sums = totals.with(None);
        totals.add_msrs(&mut sums, vec![reads(0x10, Some("p"), 1)]);
        let counts: Vec<u64> = sums.pairs.values().map(|counts| counts.reads).collect();
        assert_eq!(counts, [10]);
    }

    #[test]
    fn versions_without_end_are_summed() {
        let shadow = |version: u32| ShadowCounts {
            plugin: "s".to_owned(),
            version: version.to_string(),
            of: "p".into(),
            accesses: 1,
            ..ShadowCounts::default()
        };
        let shadows: Vec<ShadowCounts> = (0..500).map(shadow).collect();
        let sums = sums_of(Vec::new(), &shadows);
        assert_eq!(sums.shadows.len(), MOST_SHADOWS + 1);
        let rest = sums.shadows.get(&ShadowKey::others()).map(|counts| counts.accesses);
        assert_eq!(rest, Some(500 - MOST_SHADOWS as u64));
    }
}
