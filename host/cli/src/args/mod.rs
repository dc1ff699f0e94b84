//! What the user typed.

mod convert;
mod live;
mod plugin;
mod recording;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{
    Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint,
};
use clap_complete::Shell;
use wasmsr_interface::MsrRange;
use wasmsr_stats::Address;

use crate::exit;
use crate::expect::Expected;
use crate::msr_argument::MsrArgument;
pub(crate) use convert::{
    CloudHypervisor, Convert, ConvertRegisters, Firecracker, RegisterWrite, Vendor,
};
pub(crate) use live::{Disable, Enable, InPlace, Log, Metrics, OneVm, Ps, Record, Rollback, Swap};
pub(crate) use plugin::{
    Access, Bench, Build, Inspect, New, Pack, Plugin, Scope, ShowManifest, Test,
};
pub(crate) use recording::{
    AccessFilter, FilterOp, FilterOutcome, Recording, RecordingDiff, RecordingReport,
    RecordingShow, RecordingStats,
};

/// Runs a virtual machine whose MSR accesses are answered by WebAssembly
/// plugins.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Log more to standard error; give it twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The arguments. If they are wrong, the process ends here.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command with all its verbs; the help of each lists its exit codes.
pub(crate) fn command() -> Command {
    with_exit_codes(Cli::command(), "")
}

/// `command`, which is called `verb`.
fn with_exit_codes(command: Command, verb: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|below| below.get_name().to_owned()).collect();
    if names.is_empty() {
        let lines = exit::meanings(verb).map(|(codes, text)| format!("\n  {codes:<9}{text}"));
        return command.after_help(format!("Exit codes:{}", lines.collect::<String>()));
    }
    names.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| {
            with_exit_codes(below, format!("{verb} {name}").trim_start())
        })
    })
}

/// The names of all verbs, such as `plugin test`.
#[cfg(test)]
pub(crate) fn verbs() -> Vec<String> {
    fn below(command: &Command, path: &str, verbs: &mut Vec<String>) {
        for verb in command.get_subcommands() {
            let path = format!("{path} {}", verb.get_name()).trim_start().to_owned();
            match verb.has_subcommands() {
                true => below(verb, &path, verbs),
                false => verbs.push(path),
            }
        }
    }
    let mut verbs = Vec::new();
    below(&command(), "", &mut verbs);
    verbs
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run the virtual machine that a profile describes
    Run(Run),
    /// Check a profile as far as is possible without a guest
    Check(Check),
    /// Say what MSRs are, who answers them, and which profile lines a log asks for
    Explain(Explain),
    /// Run plugins on a recording again, and list the answers that differ
    Replay(Replay),
    /// Write, build, test, measure and inspect plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Show the statistics of a running VM once
    Stats(Stats),
    /// List the running VMs
    Ps(Ps),
    /// Offer the metrics of all running VMs to Prometheus
    Metrics(Metrics),
    /// Put another set of plugins in charge of a running VM
    Swap(Swap),
    /// Put the set of plugins in charge again that a swap has replaced
    Rollback(Rollback),
    /// Have KVM's answer, a fault or nothing given in place of a plugin, at once
    Disable(Disable),
    /// Let a plugin answer again that was disabled
    Enable(Enable),
    /// Get a VM's vCPUs out of the guest until `resume`
    Pause(OneVm),
    /// Let the guest of a paused VM go on
    Resume(OneVm),
    /// Reset a VM's machine
    Reset(OneVm),
    /// End a run
    Stop(OneVm),
    /// Press a VM's power button: its guest shuts down, if it listens
    Powerdown(OneVm),
    /// Begin or end a recording in a running VM
    Record(Record),
    /// Change how much a running VM logs
    Log(Log),
    /// Watch a running VM
    Top(Top),
    /// Say which plugins this host's kernel could take over: whether KVM knows their MSRs
    /// and answers as they do
    Horizon(Horizon),
    /// Show, count and compare the recordings that `run --record` writes
    #[command(subcommand)]
    Recording(Recording),
    /// Check whether this host can run VMs, and say what to do if it cannot
    Doctor(Doctor),
    /// Convert another VMM's configuration into profile lines
    #[command(subcommand)]
    Convert(Convert),
    /// Print the completion script for a shell
    Completions(Completions),
    /// Print the manual page, or write the pages of all verbs
    Man(Man),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The profile, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) profile: PathBuf,

    /// Boot at most this many times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          value_hint = ValueHint::Other)]
    pub(crate) max_boots: Option<u64>,

    /// What to do when the guest resets
    #[arg(long, value_name = "WHAT", default_value = "boot")]
    pub(crate) on_reboot: OnReboot,

    /// End with 0 if the run ends so, and with 18 if the guest ends otherwise: `success`
    /// (it powers off, or writes 0 to its debug-exit port), `power-off`, `reset`, or the
    /// value that it writes to the port
    #[arg(long, value_name = "END", value_delimiter = ',', value_hint = ValueHint::Other)]
    pub(crate) expect: Vec<Expected>,

    /// Record every MSR access in this file, with its outcome and the host calls
    /// of plugins: JSON Lines, for `recording` and `replay`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,

    /// End the recording before its file is larger than this; the run continues, and
    /// the first line is always there
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "record",
          value_hint = ValueHint::Other)]
    pub(crate) record_limit: ByteSize,

    /// Keep only the last accesses, in this much memory (at least 64KiB), and write FILE
    /// when a plugin fails for the first time, a set of plugins fails its probation, the
    /// run ends badly, or a user asks for it
    #[arg(long, value_name = "SIZE", requires = "record", conflicts_with = "record_limit",
          value_parser = ring_size, value_hint = ValueHint::Other)]
    pub(crate) record_ring: Option<ByteSize>,

    /// How standard error is written
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) log: LogForm,

    /// When the run has ended, write how it ended and its statistics to this file,
    /// as one JSON object
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) summary: Option<PathBuf>,

    /// Offer metrics to Prometheus at a loopback address, such as
    /// 127.0.0.1:PORT, or at unix:/PATH
    #[arg(long, value_name = "ADDR", value_hint = ValueHint::Other)]
    pub(crate) metrics: Option<Address>,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogForm {
    /// Lines for people
    Text,
    /// One JSON object a line, with time, level and VM; the sentences and tables too
    Json,
}

fn ring_size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    match size >= ByteSize::kib(64) {
        true => Ok(size),
        false => Err("less than 64KiB".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnReboot {
    /// End the run
    Exit,
    /// Boot again, with the plugins that are on disk at that time; more and more slowly if
    /// the guest resets again and again
    Boot,
    /// Boot again, however often
    AtOnce,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The profile, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) profile: PathBuf,

    /// List for every MSR, as ranges, what decides its reads and writes on this
    /// host, with a digest over the list
    #[arg(long)]
    pub(crate) msrs: bool,

    /// List the ranges that are decided otherwise by OTHER: another profile on this
    /// host, or what `check --msrs --json` printed, on any host
    #[arg(long, value_name = "OTHER", value_hint = ValueHint::FilePath)]
    pub(crate) diff: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The recording, from `run --record`
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) recording: PathBuf,

    /// Use the plugins of this profile, not those that were recorded
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) profile: Option<PathBuf>,

    /// List at most this many differences
    #[arg(long, value_name = "N", default_value_t = 20, value_hint = ValueHint::Other)]
    pub(crate) limit: usize,

    /// Write the new answers into the recording
    #[arg(long)]
    pub(crate) bless: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// The VM: its name, process, profile or socket; not needed if only one runs
    #[arg(conflicts_with = "list", value_hint = ValueHint::FilePath)]
    pub(crate) vm: Option<String>,

    /// List the running VMs
    #[arg(long)]
    pub(crate) list: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The VM: its name, process, profile or socket; not needed if only one runs
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) vm: Option<String>,

    /// Seconds between two updates
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval,
          value_hint = ValueHint::Other)]
    pub(crate) delay: Duration,

    /// Print lines instead of a screen, for pipes and files
    #[arg(short, long)]
    pub(crate) batch: bool,

    /// End after this many updates
    #[arg(short = 'n', long, value_name = "N", value_hint = ValueHint::Other,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) looks: Option<u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("not between 0.1 and 3600 seconds".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Horizon {
    /// A profile, or a running VM: its process or socket; without it, the only VM that runs
    #[arg(value_name = "PROFILE|VM", value_hint = ValueHint::FilePath)]
    pub(crate) subject: Option<String>,

    /// Hold this kernel's KVM against the answers that plugins gave in this recording; `-` for
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with = "subject",
          value_hint = ValueHint::FilePath)]
    pub(crate) recording: Option<PathBuf>,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The MSRs, such as 0x1ad, MSR_SMI_COUNT or 0x280-0x283; without any, a kernel's or
    /// VMM's log is read from standard input
    #[arg(value_name = "MSR", value_parser = MsrArgument, hide_possible_values = true)]
    pub(crate) msrs: Vec<MsrRange>,

    /// Say who answers them in this profile
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) profile: Option<PathBuf>,

    /// Explain the MSRs that no plugin answered in this recording; `-` for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "msrs", value_hint = ValueHint::FilePath)]
    pub(crate) recording: Option<PathBuf>,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// Keep compiled plugins in this folder; the default is wasmsr/ in
    /// $XDG_CACHE_HOME or ~/.cache
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Compile every plugin again, and keep nothing
    #[arg(long, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page per verb into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}
