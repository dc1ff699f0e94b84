//! The file of `run --summary`: what is left of a run once it has ended, for
//! programs. While it goes on, `stats --json` gives the same counts.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use tempfile::NamedTempFile;
use wasmsr_engine::{Report, ShadowCounts};
use wasmsr_vmm::RunEnd;

use crate::exit::{Code, Failure};
use crate::live::snapshot::Snapshot;
use crate::plain::write_json;

/// Where a summary goes.
pub(crate) struct SummaryFile(PathBuf);

/// A run that has ended.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    exit_code: u8,
    /// The sentence that says how it ended, or the error.
    end: String,
    /// As `stats --json` gave it when the last boot ended.
    #[serde(flatten)]
    counts: &'a Snapshot,
    shadows: Vec<Shadow<'a>>,
    reports: Vec<PluginReport<'a>>,
    /// `null` without `--record`.
    recording: Option<&'a RecordingSummary>,
}

/// How a shadow did in the last boot.
#[derive(Serialize)]
struct Shadow<'a> {
    plugin: &'a str,
    version: &'a str,
    of: &'a str,
    accesses: u64,
    answers: u64,
    effects: u64,
    unclaimed: u64,
    failures: u64,
    mean_ns: Option<u64>,
    mean_in_charge_ns: Option<u64>,
    mean_fuel: Option<u64>,
    mean_fuel_in_charge: Option<u64>,
    examples: &'a [String],
}

/// What a plugin told after the last boot.
#[derive(Serialize)]
struct PluginReport<'a> {
    plugin: &'a str,
    /// `null` where it is one instance for the VM.
    vcpu: Option<u32>,
    text: &'a str,
}

/// What became of the recording.
#[derive(Serialize)]
pub(crate) struct RecordingSummary {
    pub(crate) path: String,
    pub(crate) lines: u64,
    /// Accesses that are missing.
    pub(crate) dropped: u64,
    pub(crate) error: Option<String>,
}

/// What a boot leaves, beside its counts.
#[derive(Default)]
pub(crate) struct Leftovers {
    pub(crate) shadows: Vec<ShadowCounts>,
    pub(crate) reports: Vec<Report>,
}

impl SummaryFile {
    /// Refuses what cannot be written before anything is started.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let file = SummaryFile(path.to_owned());
        if path.is_dir() {
            let error =
                anyhow::anyhow!("--summary {}: it is a folder; name a file", path.display());
            return Err(Failure::input(error));
        }
        file.beside().with_context(|| file.complaint()).map_err(Failure::input)?;
        Ok(file)
    }

    /// Writes it, in the place of what was there. The run has ended as it did, so
    /// trouble is said and changes nothing.
    pub(crate) fn write(&self, summary: &Summary<'_>) {
        let written = self.beside().and_then(|mut file| {
            write_json(&mut file, summary)?;
            file.write_all(b"\n")?;
            file.persist(&self.0).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::error!("{}: {error}", self.complaint());
        }
    }

    fn beside(&self) -> io::Result<NamedTempFile> {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
    }

    fn complaint(&self) -> String {
        format!("cannot write the summary {}", self.0.display())
    }
}

impl<'a> Summary<'a> {
    /// All that is known of a run.
    pub(crate) fn of(
        end: &Result<RunEnd, Failure>,
        counts: &'a Snapshot,
        leftovers: &'a Leftovers,
        recording: Option<&'a RecordingSummary>,
    ) -> Self {
        let (code, end) = match end {
            Ok(end) => (Code::of(end), end.to_string()),
            Err(failure) => (failure.code, format!("{:#}", failure.error)),
        };
        Summary {
            exit_code: code.number(),
            end,
            counts,
            shadows: leftovers.shadows.iter().map(Shadow::of).collect(),
            reports: leftovers.reports.iter().map(PluginReport::of).collect(),
            recording,
        }
    }
}

impl<'a> Shadow<'a> {
    fn of(counts: &'a ShadowCounts) -> Self {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Shadow {
            plugin: &counts.plugin,
            version: &counts.version,
            of: &counts.of,
            accesses: counts.accesses,
            answers: counts.answers,
            effects: counts.effects,
            unclaimed: counts.unclaimed,
            failures: counts.failures,
            mean_ns: counts.mean().map(nanos),
            mean_in_charge_ns: counts.mean_in_charge().map(nanos),
            mean_fuel: counts.mean_fuel(),
            mean_fuel_in_charge: counts.mean_fuel_in_charge(),
            examples: &counts.examples,
        }
    }
}

impl<'a> PluginReport<'a> {
    fn of(report: &'a Report) -> Self {
        let vcpu = report.vcpu.map(|vcpu| vcpu.0);
        PluginReport { plugin: &report.plugin, vcpu, text: &report.text }
    }
}
