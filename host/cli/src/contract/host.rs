//! What of a contract depends on the host.

use std::collections::BTreeSet;

use wasmsr_interface::{KernelVersion, MsrIndex};
use wasmsr_vmm::DeadlineWrites;

use crate::loaded::host_kernel;

/// What of a contract depends on the host.
pub(crate) struct Host {
    pub(super) kernel: Option<KernelVersion>,
    /// What KVM lists, or why it is not known.
    pub(super) msrs: Result<BTreeSet<MsrIndex>, String>,
    pub(super) deadline: DeadlineWrites,
}

impl Host {
    /// This one, as it is now.
    pub(crate) fn this() -> Self {
        Host {
            kernel: host_kernel(),
            msrs: wasmsr_vmm::known_msrs().map_err(|error| error.to_string()),
            deadline: wasmsr_vmm::deadline_writes(),
        }
    }
}
