//! The file of `run --summary`: how a run ended and what was counted, for programs.
//! While the run lasts, `stats --json` gives the same counts.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use wasmsr_engine::Report;
use wasmsr_stats::Snapshot;
use wasmsr_vmm::RunEnd;

use crate::exit::{Code, Failure};
use crate::terminal::plain::write_json;
use crate::whole_file::WholeFile;

/// Where a summary goes.
pub(crate) struct SummaryFile(PathBuf);

/// A run that has ended.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    exit_code: u8,
    /// The sentence that says how it ended, or the error.
    end: String,
    /// The counts of `stats --json` at the end of the last boot.
    #[serde(flatten)]
    counts: &'a Snapshot,
    reports: Vec<PluginReport<'a>>,
    /// `null` without `--record`.
    recording: Option<&'a RecordingSummary>,
}

/// What a plugin reported after the last boot.
#[derive(Serialize)]
struct PluginReport<'a> {
    plugin: &'a str,
    /// `null` for an instance that serves all vCPUs.
    vcpu: Option<u32>,
    text: &'a str,
}

/// How the recording ended.
#[derive(Serialize)]
pub(crate) struct RecordingSummary {
    pub(crate) path: String,
    pub(crate) lines: u64,
    /// Accesses and timers that are missing.
    pub(crate) dropped: u64,
    pub(crate) error: Option<String>,
}

impl SummaryFile {
    /// Checks before anything is started that the file can be written.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let file = SummaryFile(path.to_owned());
        if path.is_dir() {
            let error =
                anyhow::anyhow!("--summary {}: it is a folder; name a file", path.display());
            return Err(Failure::input(error));
        }
        WholeFile::beside(path).with_context(|| file.complaint()).map_err(Failure::input)?;
        Ok(file)
    }

    /// Writes the summary, and replaces an older file. An error is logged and does not
    /// change the exit code: the run has ended already.
    pub(crate) fn write(&self, summary: &Summary<'_>) {
        let written = WholeFile::beside(&self.0).and_then(|mut file| {
            write_json(&mut file, summary)?;
            file.write_all(b"\n")?;
            file.replace()
        });
        if let Err(error) = written {
            tracing::error!("{}: {error}", self.complaint());
        }
    }

    fn complaint(&self) -> String {
        format!("cannot write the summary {}", self.0.display())
    }
}

impl<'a> Summary<'a> {
    /// The summary of a run.
    pub(crate) fn of(
        end: &Result<RunEnd, Failure>,
        counts: &'a Snapshot,
        reports: &'a [Report],
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
            reports: reports.iter().map(PluginReport::of).collect(),
            recording,
        }
    }
}

impl<'a> PluginReport<'a> {
    fn of(report: &'a Report) -> Self {
        let vcpu = report.vcpu.map(|vcpu| vcpu.0);
        PluginReport { plugin: &report.plugin, vcpu, text: &report.text }
    }
}
