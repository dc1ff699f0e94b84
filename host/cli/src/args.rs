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
    /// Run plugins on a recording again, and list the answers that differ
    Replay(Replay),
    /// Write, build, test, measure and inspect plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Show the statistics of a running VM once
    Stats(Stats),
    /// Watch a running VM
    Top(Top),
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

    /// Record every MSR access in this file, with its outcome and the host calls
    /// of plugins: JSON Lines, for `recording` and `replay`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,

    /// End the recording before its file is larger than this; the run continues
    #[arg(long, value_name = "SIZE", default_value = "1GiB", requires = "record",
          value_hint = ValueHint::Other)]
    pub(crate) record_limit: ByteSize,

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
pub(crate) enum OnReboot {
    /// End the run
    Exit,
    /// Boot again, with the plugins that are on disk at that time
    Boot,
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
    /// The VM: its process, profile or socket; not needed if only one runs
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
    /// The VM: its process, profile or socket; not needed if only one runs
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

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Write the crate of a new plugin
    New(New),
    /// Build a plugin's crate, and describe the .wasm file
    Build(Build),
    /// Run a plugin's traces and recordings as tests, without KVM
    Test(Test),
    /// Measure the time and fuel of a plugin's accesses, without KVM
    Bench(Bench),
    /// Show a plugin's manifest, ABI version, exports, imports, size and hash
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The name of the plugin and of its folder
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) name: String,

    /// The MSRs that it claims, such as 0x123,0x40000000-0x400000ff
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true,
          value_hint = ValueHint::Other)]
    pub(crate) msr: Vec<MsrRange>,

    /// The directions that it claims
    #[arg(long, value_name = "ACCESS", default_value = "rw")]
    pub(crate) access: Access,

    /// Whether each vCPU has its own values of the MSRs, or all share the VM's
    #[arg(long, value_name = "SCOPE", default_value = "vcpu")]
    pub(crate) scope: Scope,

    /// The folder of the crate wasmsr-sdk; the default is in the checkout that this
    /// wasmsr was built from
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
    /// One instance per vCPU
    Vcpu,
    /// One instance for the VM
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

    /// The folder of the tests; the default is traces/ beside the crate or file
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) traces: Option<PathBuf>,

    /// First make this recording a test of the plugin, in the folder of the tests
    #[arg(long, value_name = "RECORDING", value_hint = ValueHint::FilePath)]
    pub(crate) add: Option<PathBuf>,

    /// Run only the tests whose name contains this text
    #[arg(long, value_name = "TEXT", value_hint = ValueHint::Other)]
    pub(crate) filter: Option<String>,

    /// Write the new answers into the files
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

    /// The profile with the plugin's configuration and grants; the default is
    /// vm.toml of the crate, or else no configuration and every grant it asks for
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
    /// Convert a CPU template of Firecracker, a fingerprint or a VM's configuration
    Firecracker(Firecracker),
    /// Convert a CPU profile of cloud-hypervisor: its MSRs or its CPUID
    CloudHypervisor(CloudHypervisor),
}

#[derive(Debug, Args)]
pub(crate) struct Firecracker {
    /// The JSON file: a CPU template, a fingerprint of cpu-template-helper, or what
    /// `--config-file` takes; or the name of a static template, such as T2
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) template: PathBuf,

    /// Also write what Firecracker itself sets and clears in CPUID on hosts of this
    /// vendor
    #[arg(long, value_name = "VENDOR")]
    pub(crate) normalise: Option<Vendor>,
}

/// Who makes a host's processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Vendor {
    Intel,
    Amd,
}

#[derive(Debug, Args)]
pub(crate) struct CloudHypervisor {
    /// The JSON file, such as NAME.msr.json or NAME.cpuid.json
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) profile: PathBuf,
}

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
    /// Accesses to these MSRs, such as 0x10a,0x40000000-0x400000ff
    #[arg(long, value_name = "MSRS", value_delimiter = ',', value_hint = ValueHint::Other)]
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
