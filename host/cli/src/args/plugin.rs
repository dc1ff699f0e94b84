//! Arguments of `wasmsr plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use wasmsr_interface::MsrRange;

use crate::msr_argument::MsrArgument;

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
    /// Put a manifest into a .wasm file, in place of any that it has
    Pack(Pack),
    /// Print the manifest of a .wasm file
    Manifest(ShowManifest),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The name of the plugin and of its folder
    #[arg(value_hint = ValueHint::Other)]
    pub(crate) name: String,

    /// The MSRs that it claims, such as IA32_MPERF,0x40000000-0x400000ff
    #[arg(long, value_name = "RANGE", value_delimiter = ',', required = true,
          value_parser = MsrArgument, hide_possible_values = true)]
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

    /// Run each trace again for each access, with a swap after it: fresh instances with the
    /// saved state must give the same answers
    #[arg(long, conflicts_with = "bless")]
    pub(crate) swaps: bool,

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

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The manifest, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) manifest: PathBuf,

    /// The plugin, a .wasm file, which is replaced in one step
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,

    /// Write another file, and leave this one as it is
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ShowManifest {
    /// The plugin, a .wasm file
    #[arg(value_name = "FILE.wasm", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}
