//! Arguments of `wasmsr recording`, and which accesses of one are meant.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use wasmsr_interface::MsrRange;

use crate::msr_argument::MsrArgument;

#[derive(Debug, Subcommand)]
pub(crate) enum Recording {
    /// Print a recording, one line per access
    Show(RecordingShow),
    /// Count a recording's accesses and time them, by MSR and plugin
    Stats(RecordingStats),
    /// Compare two recordings; ends with 1 if they differ
    Diff(RecordingDiff),
    /// Write a page about a recording, for a browser
    Report(RecordingReport),
}

#[derive(Debug, Args)]
pub(crate) struct RecordingShow {
    /// The recording; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// Print the host calls of plugins below their access
    #[arg(long)]
    pub(crate) calls: bool,

    /// Stop after this many accesses
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) limit: Option<u64>,

    /// Print the chosen lines as JSON Lines, as they are recorded
    #[arg(long, conflicts_with = "calls")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordingStats {
    /// The recording; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordingDiff {
    /// A recording; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) a: PathBuf,

    /// The one to compare it with
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) b: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// List at most this many differences; all are counted
    #[arg(long, value_name = "N", default_value_t = 100, value_hint = ValueHint::Other)]
    pub(crate) limit: usize,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecordingReport {
    /// The recording; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// The page, which is replaced if it exists; `-` for standard output
    #[arg(short, long, value_name = "PAGE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// Most accesses in the page's table; of a larger recording it has every 2nd,
    /// 4th, 8th …
    #[arg(long, value_name = "N", default_value_t = 20_000, value_hint = ValueHint::Other,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rows: u32,
}

/// Which accesses: those that meet every condition that is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AccessFilter {
    /// Accesses to these MSRs, such as IA32_MPERF,0x40000000-0x400000ff
    #[arg(long, value_name = "MSRS", value_delimiter = ',', value_parser = MsrArgument,
          hide_possible_values = true)]
    pub(crate) msr: Vec<MsrRange>,

    /// Accesses of this vCPU
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) vcpu: Option<u32>,

    /// Accesses with this outcome
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) outcome: Vec<FilterOutcome>,

    /// Accesses that this plugin decided; `policy` for the policy
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_hint = ValueHint::Other)]
    pub(crate) plugin: Vec<String>,

    /// Only reads or only writes
    #[arg(long, value_name = "WHAT")]
    pub(crate) op: Option<FilterOp>,

    /// Accesses in this boot, counted from 1
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) boot: Option<u64>,

    /// Accesses that the set of this generation answered; 1 is the set that a boot
    /// begins with
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) generation: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilterOutcome {
    /// A read with a value
    Value,
    /// A write that was taken
    Ok,
    /// #GP(0) in the guest
    Fault,
    /// KVM's own answer
    Kernel,
    /// The run ended
    Stop,
    /// The plugin trapped or overran a limit, whatever the outcome
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilterOp {
    /// rdmsr
    Read,
    /// wrmsr
    Write,
}
