//! Arguments of `wasmsr convert`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

#[derive(Debug, Subcommand)]
pub(crate) enum Convert {
    /// Convert a CPU template of Firecracker, a fingerprint or a VM's configuration
    Firecracker(Firecracker),
    /// Convert a CPU profile of cloud-hypervisor: its MSRs or its CPUID
    CloudHypervisor(CloudHypervisor),
    /// Convert a table of MSRs and values, such as a processor's dump, for the plugin
    /// registers
    Registers(ConvertRegisters),
}

/// Lines of an MSR and its value, in hexadecimal: "0x10a 0x2b", CSV, AIDA64's and
/// InstLatx64's dumps, turbostat's names.
#[derive(Debug, Args)]
pub(crate) struct ConvertRegisters {
    /// The table; `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) table: PathBuf,

    /// What a guest's writes do
    #[arg(long, value_name = "WHAT", default_value = "keep")]
    pub(crate) write: RegisterWrite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RegisterWrite {
    /// They change the register
    Keep,
    /// They are dropped
    Ignore,
    /// They are #GP
    Fault,
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
