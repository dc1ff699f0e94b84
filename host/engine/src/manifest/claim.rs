//! A claim: a range of MSRs that a plugin answers.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
use wasmsr_interface::{Directions, MsrRange};

/// A range that the plugin answers.
#[derive(Debug, Clone, Copy)]
pub struct MsrClaim {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions; both by default.
    pub access: Directions,
    /// Where the state is.
    pub scope: Scope,
    /// Whether the accesses exit from the start, or are only reserved until
    /// the plugin turns them on.
    pub intercept: Intercept,
}

/// Whether the accesses of a claim exit at the start of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Intercept {
    /// The accesses exit.
    #[default]
    On,
    /// They are KVM's until the plugin's host call `intercept` turns them on.
    Off,
}

/// Where the state of an MSR is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// In one instance per vCPU, without a lock.
    #[default]
    Vcpu,
    /// In one instance for the VM.
    Vm,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Vcpu => "vcpu",
            Scope::Vm => "vm",
        })
    }
}
