//! What the user typed.

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

/// Runs a virtual machine whose MSR accesses are answered by WebAssembly
/// plugins.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The arguments, where they are right; ends the process where they are not.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The command with all its verbs, of which each says its exit codes.
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

/// What each verb is called, such as `plugin test`.
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
    /// Check everything about a profile that can be known without a guest
    Check(Check),
    /// Run plugins again on a recording, and list what they answer otherwise
    Replay(Replay),
    /// Write, build, test, measure and look at plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Show what a running VM has counted, once
    Stats(Stats),
    /// Watch a running VM
    Top(Top),
    /// Look at recordings of a guest's accesses, which `run --record` writes
    #[command(subcommand)]
    Recording(Recording),
    /// Say whether this host is fit, and what to do where it is not
    Doctor(Doctor),
    /// Make profile lines of another VMM's configuration
    #[command(subcommand)]
    Convert(Convert),
    /// Print what a shell needs to complete this command
    Completions(Completions),
    /// Print the manual page, or write those of all verbs
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

    /// Write every MSR access to this file, with its answer and all that
    /// plugins asked of the host: JSON Lines, for `recording` and `replay`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,

    /// End the recording, not the run, before its file has more than this
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "record",
          value_hint = ValueHint::Other)]
    pub(crate) record_limit: ByteSize,

    /// When the run has ended, write to this file how it did and what was
    /// counted, as one JSON object
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
pub(crate) enum OnReboot {
    /// End the run
    Exit,
    /// Boot again, with the plugins that lie on disk then
    Boot,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The profile, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) profile: PathBuf,

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

    /// Write the answers that came into the recording
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
    /// The VM: its process, profile or socket; not needed if one runs
    #[arg(conflicts_with = "list", value_hint = ValueHint::FilePath)]
    pub(crate) vm: Option<String>,

    /// List the VMs that run
    #[arg(long)]
    pub(crate) list: bool,

    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// The VM: its process, profile or socket; not needed if one runs
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) vm: Option<String>,

    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval,
          value_hint = ValueHint::Other)]
    pub(crate) delay: Duration,

    /// Print lines, for pipes and files, instead of a screen
    #[arg(short, long)]
    pub(crate) batch: bool,

    /// End after so many looks
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
pub(crate) struct Doctor {
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) cache: Cache,
}

#[derive(Debug, Args)]
pub(crate) struct Cache {
    /// Keep compiled plugins here, not in wasmsr/ in $XDG_CACHE_HOME or ~/.cache
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) cache_dir: Option<PathBuf>,

    /// Compile every plugin anew, and keep nothing
    #[arg(long, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Write a crate to start a plugin from
    New(New),
    /// Build a plugin's crate, and show what came of it
    Build(Build),
    /// Hold a plugin against its traces, without KVM
    Test(Test),
    /// Measure what a plugin's answers cost, without KVM
    Bench(Bench),
    /// Show a plugin's manifest, ABI version, exports, imports, size and hash
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The plugin's name, and that of its folder
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) name: String,

    /// The MSRs that it answers, such as 0x123,0x40000000-0x400000ff
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true,
          value_hint = ValueHint::Other)]
    pub(crate) msr: Vec<MsrRange>,

    /// The directions that it answers
    #[arg(long, value_name = "ACCESS", default_value = "rw")]
    pub(crate) access: Access,

    /// Whose state an MSR is: that of each vCPU, or the VM's
    #[arg(long, value_name = "SCOPE", default_value = "vcpu")]
    pub(crate) scope: Scope,

    /// The folder of the crate wasmsr-sdk; if not given, that of the checkout
    /// this wasmsr was built from
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Access {
    /// Reads
    R,
    /// Writes
    W,
    /// Both
    Rw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// An instance for each vCPU
    Vcpu,
    /// One for the VM
    Vm,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The folder of the plugin's crate
    #[arg(default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The folder of the plugin's crate, which is built, or a built .wasm file
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) subject: PathBuf,

    /// The folder of the traces; if not given, traces/ beside what is tested
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) traces: Option<PathBuf>,

    /// Make this recording a test first: what it has of the plugin goes into
    /// the folder of the traces
    #[arg(long, value_name = "RECORDING", value_hint = ValueHint::FilePath)]
    pub(crate) add: Option<PathBuf>,

    /// Only those whose name contains this text
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other)]
    pub(crate) filter: Option<String>,

    /// Write the answers that came into the files
    #[arg(long)]
    pub(crate) bless: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The folder of the plugin's crate, which is built, or a built .wasm file
    #[arg(value_name = "DIR|FILE.wasm", default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(crate) subject: PathBuf,

    /// The profile with the plugin's configuration and grants; if not given,
    /// vm.toml of the crate, or else none and every grant it asks for
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) profile: Option<PathBuf>,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The plugin, a .wasm file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Convert {
    /// The MSRs of a Firecracker CPU template, for the plugin value-template
    Firecracker(Firecracker),
}

#[derive(Debug, Args)]
pub(crate) struct Firecracker {
    /// The CPU template, a JSON file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) template: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Recording {
    /// Print a recording, an access a line
    Show(RecordingShow),
    /// Count a recording's accesses and time them, by MSR and plugin
    Stats(RecordingStats),
    /// Compare two recordings; ends with 1 if they differ
    Diff(RecordingDiff),
    /// Write a page about a recording, to be opened in a browser
    Report(RecordingReport),
}

#[derive(Debug, Args)]
pub(crate) struct RecordingShow {
    /// The recording; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// Print what plugins asked of the host, below the access at which they did
    #[arg(long)]
    pub(crate) calls: bool,

    /// Stop after so many accesses
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) limit: Option<u64>,

    /// Print the lines that were chosen as they are recorded, as JSON Lines
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

    /// List at most so many differences; all are counted
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

    /// The page, which is written anew if it is there; `-` for standard output
    #[arg(short, long, value_name = "PAGE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,

    #[command(flatten)]
    pub(crate) filter: AccessFilter,

    /// Most accesses in the page's table; beyond that every 2nd, 4th, 8th …
    #[arg(long, value_name = "N", default_value_t = 20_000, value_hint = ValueHint::Other,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rows: u32,
}

/// Which accesses; those that fit all that is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AccessFilter {
    /// Of these MSRs, such as 0x10a,0x40000000-0x400000ff
    #[arg(long, value_name = "MSRS", value_delimiter = ',', value_hint = ValueHint::Other)]
    pub(crate) msr: Vec<MsrRange>,

    /// Of this vCPU
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) vcpu: Option<u32>,

    /// That ended so
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(crate) outcome: Vec<FilterOutcome>,

    /// That this plugin decided, or the policy: `policy`
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_hint = ValueHint::Other)]
    pub(crate) plugin: Vec<String>,

    /// Reads or writes only
    #[arg(long, value_name = "WHAT")]
    pub(crate) op: Option<FilterOp>,

    /// Of this boot, counted from 1
    #[arg(long, value_name = "N", value_hint = ValueHint::Other)]
    pub(crate) boot: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilterOutcome {
    /// A read was completed
    Value,
    /// A write was completed
    Ok,
    /// The guest got #GP(0)
    Fault,
    /// KVM's own answer
    Kernel,
    /// The run was stopped
    Stop,
    /// The plugin failed, whatever the guest got
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FilterOp {
    /// rdmsr
    Read,
    /// wrmsr
    Write,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write a page for each verb into this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
}
