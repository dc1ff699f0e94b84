//! Where a vCPU is, in lines about its accesses.

use std::fmt;

use wasmsr_interface::{Host, VcpuId};

/// `vCPU 0 at RIP 0x1001bc`, or without RIP if the host does not know it. The host is
/// asked when the text is made.
pub(crate) struct Located<'a> {
    pub(crate) vcpu: VcpuId,
    pub(crate) host: &'a dyn Host,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Located { vcpu, host } = self;
        match host.guest_rip(*vcpu) {
            Some(rip) => write!(f, "{vcpu} at RIP {rip:#x}"),
            None => vcpu.fmt(f),
        }
    }
}
