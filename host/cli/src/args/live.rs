//! The arguments of the verbs that see and change running VMs.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum, ValueHint};
use wasmsr_stats::{Address, control};

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Print a list of JSON objects instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// Those of all running VMs of this user, with the label `vm`
    #[arg(long, required = true)]
    pub(crate) all: bool,

    /// Serve them to Prometheus at a loopback address, such as 127.0.0.1:PORT, or at
    /// unix:/PATH, until Ctrl-C; without it, they are printed once
    #[arg(long, value_name = "ADDR", value_hint = ValueHint::Other)]
    pub(crate) listen: Option<Address>,
}

#[derive(Debug, Args)]
pub(crate) struct OneVm {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,
}

#[derive(Debug, Args)]
pub(crate) struct Swap {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// Use FILE for the plugin NAME, in this boot and all that follow; may be repeated
    #[arg(long, num_args = 2, value_names = ["NAME", "FILE"], action = clap::ArgAction::Append,
          value_hint = ValueHint::FilePath)]
    pub(crate) plugin: Vec<String>,

    /// Use another profile, in this boot and all that follow; without it, the VM's own is
    /// read again
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) profile: Option<PathBuf>,

    /// Do all but the swap itself, and say what would come of it
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Refuse unless the set in charge has this digest; `wasmsr ps --json` shows it
    #[arg(long, value_name = "SHA256", value_hint = ValueHint::Other)]
    pub(crate) expect: Option<String>,

    /// Watch the new set for this many seconds, and go back if it fails, differs from the
    /// old one or raises more #GPs; 0 for no such time
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds,
          value_hint = ValueHint::Other)]
    pub(crate) probation: f64,

    /// The new set has passed after so many accesses, even if the time is not over
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          value_hint = ValueHint::Other)]
    pub(crate) probation_accesses: Option<u64>,

    /// How many accesses the new set may answer otherwise than the old one
    #[arg(long, value_name = "N", default_value_t = 0, value_hint = ValueHint::Other)]
    pub(crate) differences: u64,

    /// MSRs that it may answer otherwise as often as it likes, such as
    /// 0x10a,0x40000000-0x400000ff
    #[arg(long, value_name = "MSR", value_delimiter = ',', value_hint = ValueHint::Other)]
    pub(crate) may_differ: Vec<String>,

    /// Wait for the end of the probation; the exit code is 1 if the old set came back
    #[arg(long)]
    pub(crate) wait: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = number.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match (0.0..=86_400.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not between 0 and 86400 seconds".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Disable {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// The plugin
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) plugin: String,

    /// What is given in its place, from the next access on
    #[arg(long)]
    pub(crate) answer: InPlace,
}

/// What is given in a plugin's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InPlace {
    /// KVM's own answer
    Kernel,
    /// A #GP in the guest
    Fault,
    /// Reads give 0, writes are dropped
    Ignore,
}

impl From<InPlace> for control::Answer {
    fn from(answer: InPlace) -> Self {
        match answer {
            InPlace::Kernel => control::Answer::Kernel,
            InPlace::Fault => control::Answer::Fault,
            InPlace::Ignore => control::Answer::Ignore,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Enable {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// The plugin
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) plugin: String,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "off", "dump"]))]
pub(crate) struct Record {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// Record all accesses from now on to this file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,

    /// End the recording before its file is larger than this; without it 1GiB
    #[arg(long, value_name = "SIZE", requires = "file", value_hint = ValueHint::Other)]
    pub(crate) limit: Option<ByteSize>,

    /// End the recording
    #[arg(long)]
    pub(crate) off: bool,

    /// Write what the ring of `run --record-ring` holds to its file
    #[arg(long)]
    pub(crate) dump: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The VM: its name, process, profile or socket
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) vm: String,

    /// The least that is logged
    pub(crate) level: Level,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// What failed
    Error,
    /// And what may surprise
    Warn,
    /// And what happened: the default of `run`
    Info,
    /// And how, as with -v
    Debug,
    /// Everything, as with -vv
    Trace,
}

impl From<Level> for control::LogLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => control::LogLevel::Error,
            Level::Warn => control::LogLevel::Warn,
            Level::Info => control::LogLevel::Info,
            Level::Debug => control::LogLevel::Debug,
            Level::Trace => control::LogLevel::Trace,
        }
    }
}
