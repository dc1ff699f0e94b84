//! Host calls as values: what was asked, and what came back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::hex::{Bytes, Hex};
use crate::msr::MsrIndex;

/// One call of a plugin to the [`Host`](crate::Host), with its reply. The names
/// are those of the ABI's imports, where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
#[expect(missing_docs, reason = "as the methods of `Host`, which document them")]
pub enum HostCall {
    Tsc {
        vcpu: u32,
        value: Hex,
    },
    TscKhz {
        value: u32,
    },
    MonotonicNs {
        value: Hex,
    },
    RealtimeNs {
        value: Hex,
    },
    TscIsStable {
        value: bool,
    },
    VcpuTimes {
        vcpu: u32,
        /// Nanoseconds run and waited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<(Hex, Hex)>,
    },
    GuestRead {
        gpa: Hex,
        len: usize,
        /// Absent where the range is not guest RAM.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Bytes>,
    },
    GuestWrite {
        gpa: Hex,
        data: Bytes,
        done: bool,
    },
    KvmRdmsr {
        vcpu: u32,
        msr: MsrIndex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Hex>,
    },
    KvmWrmsr {
        vcpu: u32,
        msr: MsrIndex,
        value: Hex,
        done: bool,
    },
    HostRdmsr {
        /// Absent for the CPU that the vCPU ran on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cpu: Option<u32>,
        msr: MsrIndex,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<Hex>,
    },
    HostCpus {
        value: u32,
    },
    HostFile {
        path: PathBuf,
        /// Most bytes that were asked for.
        room: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data: Option<Bytes>,
    },
    SetExits {
        /// Why the filter could not hold them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    WakeAt {
        vcpu: u32,
        at: Hex,
    },
}

impl HostCall {
    /// What the call holds on the heap, in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            HostCall::GuestRead { data: Some(data), .. }
            | HostCall::GuestWrite { data, .. }
            | HostCall::HostFile { data: Some(data), .. } => data.0.len(),
            _ => 0,
        }
    }

    /// Whether the call changes the guest or KVM, beside what it answers.
    pub(crate) fn is_effect(&self) -> bool {
        matches!(self, HostCall::GuestWrite { .. } | HostCall::KvmWrmsr { .. })
    }
}

/// Stands in the place of a plugin for what the engine itself asks.
pub const ENGINE: &str = "(engine)";

/// A call with the plugin that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginCall {
    /// The plugin's name.
    pub plugin: String,
    /// The call.
    #[serde(flatten)]
    pub call: HostCall,
}
