//! Accesses that exit for another set of plugins than the one in charge: while one set takes
//! over from another, what either claims exits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};

use wasmsr_interface::{Host, Initiator, MsrAccess, MsrOp, Outcome, Reason, VcpuId};

/// What a vCPU needs to answer strays as if they had not exited.
#[derive(Clone)]
pub(crate) struct Strays {
    host: Arc<dyn Host>,
    /// Whether what two sets want exits at present.
    two_sets: Arc<AtomicBool>,
}

impl Strays {
    pub(crate) fn new(host: Arc<dyn Host>, two_sets: Arc<AtomicBool>) -> Self {
        Strays { host, two_sets }
    }

    pub(super) fn two_sets_exit(&self) -> bool {
        self.two_sets.load(Acquire)
    }

    /// KVM's answer to the guest.
    ///
    /// # Errors
    /// KVM refuses the access: the reason with which it would have exited by itself.
    #[cold]
    pub(super) fn ask_kernel(&self, access: &MsrAccess, vcpu: VcpuId) -> Result<Outcome, Reason> {
        let read = || self.host.kvm_msr(vcpu, access.index, Initiator::Guest);
        match access.op {
            MsrOp::Read => read().map(Outcome::Value).ok_or(Reason::Unknown),
            MsrOp::Write(value) => {
                match self.host.set_kvm_msr(vcpu, access.index, value, Initiator::Guest) {
                    true => Ok(Outcome::Done),
                    false if read().is_some() => Err(Reason::Invalid),
                    false => Err(Reason::Unknown),
                }
            }
        }
    }
}
