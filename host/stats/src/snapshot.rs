//! What `GET /stats` and `wasmsr stats --json` give: the counts of the current
//! boot.
//!
//! Readers and VMs may have different versions: new versions add keys, and a key
//! that an older VM does not send has a default.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmsr_engine::{Latency, MsrAgreement, MsrCounts, ShadowCounts};
use wasmsr_interface::MsrIndex;

use crate::plain::{plain, plain_up_to};

/// Stands for the policy where a plugin's name would be: it answers what no plugin
/// handles. No plugin's name has parentheses.
pub const POLICY: &str = "(policy)";

/// Stands where an MSR's number would be, in the sum of those without a row.
pub const OTHERS: &str = "(others)";

/// Longest path that Linux takes.
const LONGEST_PATH: usize = 4096;

/// Longest difference of a shadow that is kept whole.
const LONGEST_EXAMPLE: usize = 512;

/// The statistics of a running VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version of wasmsr that the VM was built with.
    pub version: String,
    /// The VM's process.
    pub pid: u32,
    /// The path of the profile.
    #[serde(default)]
    pub profile: String,
    /// Its vCPUs; 0 between two boots.
    #[serde(default)]
    pub vcpus: usize,
    /// Boots so far, the current one included.
    #[serde(default)]
    pub boots: u64,
    /// Seconds since the run began.
    #[serde(default)]
    pub uptime: f64,
    /// Seconds since the current boot began; `null` between two.
    pub boot_uptime: Option<f64>,
    /// The plugins in charge, in the order of the profile.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// One row per MSR and plugin.
    #[serde(default)]
    pub msrs: Vec<Row>,
    /// One entry per shadow.
    #[serde(default)]
    pub shadows: Vec<Shadow>,
}

/// The accesses to one MSR that one plugin answered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// In hexadecimal; `null` for the sum of those without a row.
    pub msr: Option<String>,
    /// The MSR's name, if it has one.
    pub name: Option<String>,
    /// The plugin that answered; `null` for the policy.
    pub plugin: Option<String>,
    /// Accesses by RDMSR.
    pub reads: u64,
    /// Accesses by WRMSR.
    pub writes: u64,
    /// Accesses whose outcome was `fault`: #GP(0) in the guest.
    #[serde(default)]
    pub faults: u64,
    /// Accesses at which the plugin failed.
    #[serde(default)]
    pub failures: u64,
    /// The number of accesses that were timed: a sample of all.
    #[serde(default)]
    pub timed: u64,
    /// Mean time of an access in engine and plugin.
    pub mean_ns: Option<u64>,
    /// Half of the timed accesses took at most this long.
    pub p50_ns: Option<u64>,
    /// 99 of 100 timed accesses took at most this long.
    pub p99_ns: Option<u64>,
    /// Mean fuel of an access.
    pub mean_fuel: Option<u64>,
    /// Fuel that `metered` of the timed accesses used.
    #[serde(default)]
    pub fuel: u64,
    /// The number of accesses whose fuel is in `fuel`.
    #[serde(default)]
    pub metered: u64,
    /// The times, as a histogram.
    #[serde(default)]
    pub latency: Latency,
}

/// How a shadow compares with the plugin in charge.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// The shadow's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The plugin in charge.
    pub of: String,
    /// Accesses that the shadow was given as well.
    #[serde(default)]
    pub accesses: u64,
    /// Accesses with another answer.
    #[serde(default)]
    pub answers: u64,
    /// Times at which it would have changed the guest in another way.
    #[serde(default)]
    pub effects: u64,
    /// Accesses that it does not claim.
    #[serde(default)]
    pub unclaimed: u64,
    /// Calls of the shadow that trapped or overran a limit.
    #[serde(default)]
    pub failures: u64,
    /// The time it adds to an access, its timers included.
    pub mean_ns: Option<u64>,
    /// Its mean fuel for an access.
    pub mean_fuel: Option<u64>,
    /// The mean fuel of the plugin in charge for the same accesses.
    pub mean_fuel_in_charge: Option<u64>,
    /// One difference for each of the first MSRs and directions.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Of a kernel shadow: accesses that were not compared.
    #[serde(default)]
    pub not_compared: u64,
    /// Of a kernel shadow: the first MSRs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub msrs: Vec<Agreement>,
}

/// How KVM and the plugin in charge agree on one MSR.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The MSR's index.
    pub index: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Reads that were compared.
    #[serde(default)]
    pub reads: u64,
    /// Those with another answer.
    #[serde(default)]
    pub other_reads: u64,
    /// Writes that were compared.
    #[serde(default)]
    pub writes: u64,
    /// Those with another answer.
    #[serde(default)]
    pub other_writes: u64,
    /// Accesses that were not compared.
    #[serde(default)]
    pub not_compared: u64,
    /// The first difference.
    pub example: Option<String>,
}

impl Snapshot {
    /// The sum of each plugin's rows, by name; the policy's is `None`.
    pub fn by_plugin(&self) -> Vec<Row> {
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

    /// The same with harmless texts: a snapshot may come from any process.
    pub(crate) fn harmless(mut self) -> Self {
        self.profile = plain_up_to(&self.profile, LONGEST_PATH);
        let of_rows = self
            .msrs
            .iter_mut()
            .flat_map(|row| [&mut row.msr, &mut row.name, &mut row.plugin].into_iter().flatten());
        let of_shadows = self.shadows.iter_mut().flat_map(|shadow| {
            shadow
                .examples
                .iter_mut()
                .for_each(|example| *example = plain_up_to(example, LONGEST_EXAMPLE));
            for row in &mut shadow.msrs {
                row.name = row.name.as_deref().map(plain);
                row.example = row.example.as_deref().map(|text| plain_up_to(text, LONGEST_EXAMPLE));
            }
            [&mut shadow.plugin, &mut shadow.version, &mut shadow.of]
        });
        let names = self.plugins.iter_mut().chain([&mut self.version]);
        for text in names.chain(of_rows).chain(of_shadows) {
            *text = plain(text);
        }
        self
    }
}

impl Row {
    pub(crate) fn of(counts: MsrCounts) -> Self {
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
    pub fn accesses(&self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// With the values that follow from the others.
    fn derived(mut self) -> Self {
        self.timed = self.latency.timed();
        self.mean_ns = self.latency.mean().map(nanos);
        self.p50_ns = self.latency.within(500).map(nanos);
        self.p99_ns = self.latency.within(990).map(nanos);
        self.mean_fuel = self.fuel.checked_div(self.metered);
        self
    }

    /// Adds another row's counts.
    fn add(&mut self, other: &Row) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.faults = self.faults.saturating_add(other.faults);
        self.failures = self.failures.saturating_add(other.failures);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.metered = self.metered.saturating_add(other.metered);
        self.latency.add(&other.latency);
    }

    /// The accesses since `earlier`, with their own times.
    pub fn since(&self, earlier: &Row) -> Row {
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

impl Shadow {
    pub(crate) fn of(counts: ShadowCounts) -> Self {
        Shadow {
            mean_ns: counts.mean().map(nanos),
            mean_fuel: counts.mean_fuel(),
            mean_fuel_in_charge: counts.mean_fuel_in_charge(),
            plugin: counts.plugin,
            version: counts.version,
            of: counts.of.to_string(),
            accesses: counts.accesses,
            answers: counts.answers,
            effects: counts.effects,
            unclaimed: counts.unclaimed,
            failures: counts.failures,
            examples: counts.examples,
            not_compared: counts.not_compared,
            msrs: counts.msrs.into_iter().map(Agreement::of).collect(),
        }
    }

    /// Times at which the shadow differed from the plugin in charge.
    pub fn differences(&self) -> u64 {
        self.answers.saturating_add(self.effects).saturating_add(self.unclaimed)
    }
}

impl Agreement {
    fn of(counts: MsrAgreement) -> Self {
        Agreement {
            index: counts.index.0,
            name: counts.index.name().map(str::to_owned),
            reads: counts.reads,
            other_reads: counts.other_reads,
            writes: counts.writes,
            other_writes: counts.other_writes,
            not_compared: counts.not_compared,
            example: counts.example,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hostile_reaches_a_terminal() {
        let hostile = "p\r\x07\u{9b}\u{ad}\u{202e}";
        let row = || Row {
            msr: Some(hostile.into()),
            name: Some("n".repeat(1 << 20)),
            plugin: Some(hostile.into()),
            ..Row::default()
        };
        let shadow = Shadow {
            plugin: hostile.into(),
            version: hostile.into(),
            of: hostile.into(),
            examples: vec![hostile.into(), "e".repeat(1 << 20)],
            ..Shadow::default()
        };
        let snapshot = Snapshot {
            version: hostile.into(),
            profile: "/a\x1b[2Jb".into(),
            plugins: vec![hostile.into()],
            msrs: vec![row(), row()],
            shadows: vec![shadow],
            ..Snapshot::default()
        };
        let harmless = snapshot.harmless();
        assert_eq!(harmless.profile, r"/a\u{1b}[2Jb");
        let text = format!("{harmless:?}");
        assert!(!text.contains(|c: char| c.is_control()), "{text}");
        assert_eq!(harmless.msrs[1].plugin.as_deref(), Some(r"p\u{d}\u{7}\u{9b}\u{ad}\u{202e}"));
        assert!(serde_json::to_string(&harmless).unwrap().len() < 4000, "long names are cut");
    }

    #[test]
    fn what_an_older_or_newer_version_tells_is_understood() {
        let told = r#"{"version": "0.0.1", "pid": 7, "news": [{"n": 1}],
            "msrs": [{"reads": 1, "writes": 2, "more": null}],
            "shadows": [{"plugin": "s", "version": "1.0.0", "of": "p"}]}"#;
        let snapshot: Snapshot = serde_json::from_str(told).unwrap();
        assert_eq!((snapshot.pid, snapshot.msrs[0].accesses()), (7, 3));
        assert!(serde_json::from_str::<Snapshot>("{}").is_err(), "that is something else");
    }

    #[test]
    fn plugins_are_summed_and_idle_ones_are_there() {
        let row = |plugin: Option<&str>| Row {
            plugin: plugin.map(str::to_owned),
            reads: 2,
            ..Row::default()
        };
        let snapshot = Snapshot {
            plugins: vec!["idle".into(), "p".into()],
            msrs: vec![row(Some("p")), row(None), row(Some("p"))],
            ..Snapshot::default()
        };
        let sums = snapshot.by_plugin();
        let told: Vec<_> = sums.iter().map(|row| (row.plugin.as_deref(), row.reads)).collect();
        assert_eq!(told, [(None, 2), (Some("idle"), 0), (Some("p"), 4)]);
    }
}
