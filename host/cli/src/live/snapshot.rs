//! What `GET /stats` and `wasmsr stats --json` give: the counts of the current
//! boot.
//!
//! Readers and VMs may be of different versions: keys are added, and what an
//! older VM does not tell has a default.

use std::collections::BTreeMap;
use std::path::Path;
use std::process;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmsr_engine::msr::MsrIndex;
use wasmsr_engine::{Latency, Metrics, MsrCounts};

use crate::plain::{plain, plain_up_to};

/// Longest path that Linux takes.
const LONGEST_PATH: usize = 4096;

/// Most rows that are given; a guest can make more, and finds the rest in one.
const MOST_ROWS: usize = 1024;

/// The statistics of a running VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// wasmsr's version there.
    pub(crate) version: String,
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) profile: String,
    #[serde(default)]
    pub(crate) vcpus: usize,
    #[serde(default)]
    pub(crate) boots: u64,
    /// Seconds since the run began.
    #[serde(default)]
    pub(crate) uptime: f64,
    /// Seconds since the current boot began; `null` between two.
    pub(crate) boot_uptime: Option<f64>,
    /// The plugins that may answer, in the order of the profile.
    #[serde(default)]
    pub(crate) plugins: Vec<String>,
    #[serde(default)]
    pub(crate) msrs: Vec<Row>,
}

/// The accesses to one MSR that one plugin answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// In hexadecimal; `null` for the sum of those that found no row.
    pub(crate) msr: Option<String>,
    pub(crate) name: Option<String>,
    /// `null` where it was left to the policy.
    pub(crate) plugin: Option<String>,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    #[serde(default)]
    pub(crate) faults: u64,
    #[serde(default)]
    pub(crate) failures: u64,
    /// How many accesses the times are of.
    #[serde(default)]
    pub(crate) timed: u64,
    pub(crate) mean_ns: Option<u64>,
    pub(crate) p50_ns: Option<u64>,
    pub(crate) p99_ns: Option<u64>,
    pub(crate) mean_fuel: Option<u64>,
    /// Fuel used by `metered` of the timed accesses.
    #[serde(default)]
    pub(crate) fuel: u64,
    #[serde(default)]
    pub(crate) metered: u64,
    #[serde(default)]
    pub(crate) latency: Latency,
}

impl Snapshot {
    pub(crate) fn of(
        profile: &Path,
        uptime: Duration,
        boots: u64,
        boot: Option<Duration>,
        metrics: Option<&Metrics>,
    ) -> Self {
        let mut plugins: Vec<String> = Vec::new();
        for plugin in metrics.into_iter().flat_map(Metrics::plugins) {
            if !plugins.iter().any(|known| **known == **plugin) {
                plugins.push(plugin.to_string());
            }
        }
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            profile: profile.display().to_string(),
            vcpus: metrics.map_or(0, Metrics::vcpus),
            boots,
            uptime: uptime.as_secs_f64(),
            boot_uptime: boot.map(|time| time.as_secs_f64()),
            plugins,
            msrs: metrics.map(|metrics| rows(metrics.msrs())).unwrap_or_default(),
        }
    }

    /// The sum of each plugin's rows, by name; the policy's is `None`.
    pub(crate) fn by_plugin(&self) -> Vec<Row> {
        let mut sums: BTreeMap<Option<&str>, Row> = BTreeMap::new();
        for plugin in &self.plugins {
            sums.entry(Some(plugin)).or_default();
        }
        for row in &self.msrs {
            sums.entry(row.plugin.as_deref()).or_default().add(row);
        }
        let named = |(plugin, row): (Option<&str>, Row)| Row {
            plugin: plugin.map(str::to_owned),
            ..row.derived()
        };
        sums.into_iter().map(named).collect()
    }

    /// The same without what could hurt a terminal; it may come from anybody.
    pub(crate) fn harmless(mut self) -> Self {
        self.profile = plain_up_to(&self.profile, LONGEST_PATH);
        let of_rows = self
            .msrs
            .iter_mut()
            .flat_map(|row| [&mut row.msr, &mut row.name, &mut row.plugin].into_iter().flatten());
        let names = self.plugins.iter_mut().chain([&mut self.version]);
        for text in names.chain(of_rows) {
            *text = plain(text);
        }
        self
    }
}

fn rows(mut counts: Vec<MsrCounts>) -> Vec<Row> {
    if counts.len() > MOST_ROWS {
        // The rarest share a row.
        let mut kept = counts.clone();
        kept.sort_by_key(|row| std::cmp::Reverse(row.accesses()));
        let mut rest = MsrCounts::default();
        for row in kept.split_off(MOST_ROWS - 1) {
            rest.add(&row);
        }
        for unnamed in kept.extract_if(.., |row| row.index.is_none()) {
            rest.add(&unnamed);
        }
        kept.sort_by(|a, b| (a.index, &a.plugin).cmp(&(b.index, &b.plugin)));
        kept.push(rest);
        counts = kept;
    }
    counts.into_iter().map(Row::of).collect()
}

impl Row {
    fn of(counts: MsrCounts) -> Self {
        let row = Row {
            msr: counts.index.map(|index| index.to_string()),
            name: counts.index.and_then(MsrIndex::name).map(str::to_owned),
            plugin: counts.plugin.map(|plugin| plugin.to_string()),
            reads: counts.reads,
            writes: counts.writes,
            faults: counts.faults,
            failures: counts.failures,
            fuel: counts.fuel,
            metered: counts.metered,
            latency: counts.latency,
            ..Row::default()
        };
        row.derived()
    }

    /// Reads and writes.
    pub(crate) fn accesses(&self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// With everything that follows from the rest.
    pub(crate) fn derived(mut self) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.timed = self.latency.timed();
        self.mean_ns = self.latency.mean().map(nanos);
        self.p50_ns = self.latency.within(500).map(nanos);
        self.p99_ns = self.latency.within(990).map(nanos);
        self.mean_fuel = self.fuel.checked_div(self.metered);
        self
    }

    /// Adds another's counts.
    pub(crate) fn add(&mut self, other: &Row) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.faults = self.faults.saturating_add(other.faults);
        self.failures = self.failures.saturating_add(other.failures);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.metered = self.metered.saturating_add(other.metered);
        self.latency.add(&other.latency);
    }

    /// What has come since `earlier`.
    pub(crate) fn since(&self, earlier: &Row) -> Row {
        let later = Row {
            reads: self.reads.saturating_sub(earlier.reads),
            writes: self.writes.saturating_sub(earlier.writes),
            faults: self.faults.saturating_sub(earlier.faults),
            failures: self.failures.saturating_sub(earlier.failures),
            fuel: self.fuel.saturating_sub(earlier.fuel),
            metered: self.metered.saturating_sub(earlier.metered),
            latency: self.latency.since(&earlier.latency),
            ..Row::default()
        };
        later.derived()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_makes_many_rows_finds_the_rare_ones_in_one() {
        let counts = |index| MsrCounts {
            index: Some(MsrIndex(index)),
            reads: 1 + u64::from(index % 7),
            ..MsrCounts::default()
        };
        let many: Vec<MsrCounts> = (0..5000).map(counts).collect();
        let all: u64 = many.iter().map(MsrCounts::accesses).sum();
        let rows = rows(many);
        assert_eq!(rows.len(), MOST_ROWS);
        assert_eq!(rows.iter().map(Row::accesses).sum::<u64>(), all);
        assert_eq!(rows.last().and_then(|row| row.msr.clone()), None);
        assert_eq!(rows[0].msr.as_deref(), Some("0x5"), "the most frequent keep theirs");
    }

    #[test]
    fn nothing_hostile_reaches_a_terminal() {
        let mut snapshot =
            Snapshot::of(Path::new("/a\x1b[2J\u{202e}b"), Duration::ZERO, 1, None, None);
        let name = Some("n".repeat(1 << 20));
        snapshot.msrs.push(Row { plugin: Some("p\r\u{9b}".into()), name, ..Row::default() });
        let harmless = snapshot.harmless();
        assert_eq!(harmless.profile, r"/a\u{1b}[2J\u{202e}b");
        assert_eq!(harmless.msrs[0].plugin.as_deref(), Some(r"p\u{d}\u{9b}"));
        assert!(serde_json::to_string(&harmless).unwrap().len() < 2000, "long names are cut");
    }

    #[test]
    fn what_an_older_or_newer_version_tells_is_understood() {
        let told = r#"{"version": "0.0.1", "pid": 7, "news": [{"n": 1}],
            "msrs": [{"reads": 1, "writes": 2, "more": null}]}"#;
        let snapshot: Snapshot = serde_json::from_str(told).unwrap();
        assert_eq!((snapshot.pid, snapshot.msrs[0].accesses()), (7, 3));
        assert!(serde_json::from_str::<Snapshot>("{}").is_err(), "that is something else");
    }

    #[test]
    fn plugins_are_summed_and_idle_ones_are_there() {
        let mut snapshot = Snapshot::of(Path::new("/vm"), Duration::ZERO, 1, None, None);
        snapshot.plugins = vec!["idle".into(), "p".into()];
        let row = |plugin: Option<&str>| Row {
            plugin: plugin.map(str::to_owned),
            reads: 2,
            ..Row::default()
        };
        snapshot.msrs = vec![row(Some("p")), row(None), row(Some("p"))];
        let sums = snapshot.by_plugin();
        let told: Vec<_> = sums.iter().map(|row| (row.plugin.as_deref(), row.reads)).collect();
        assert_eq!(told, [(None, 2), (Some("idle"), 0), (Some("p"), 4)]);
    }
}
