//! What a vCPU and the thread that swaps its plugins have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmsr_interface::{Initiator, MsrIndex, VcpuId};

use crate::dispatch::VcpuDispatch;

/// The plugins of one vCPU. The lock is held while an access or a timer is served, so that
/// whoever holds the locks of all vCPUs finds nothing half answered.
pub(super) struct VcpuCell(Mutex<Dispatching>);

/// A vCPU's dispatch, with what it must still do for the set of plugins that came into
/// charge.
pub(super) struct Dispatching {
    pub(super) dispatch: VcpuDispatch,
    /// KVM's MSRs that plugins wrote before they were in charge: only the vCPU's own thread
    /// can write them without waiting.
    pub(super) due: Vec<DueWrite>,
}

/// A write of one of KVM's MSRs that a plugin has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueWrite {
    pub(super) vcpu: VcpuId,
    pub(super) index: MsrIndex,
    pub(super) value: u64,
    pub(super) initiator: Initiator,
}

impl VcpuCell {
    pub(super) fn new(dispatch: VcpuDispatch) -> Self {
        VcpuCell(Mutex::new(Dispatching { dispatch, due: Vec::new() }))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Dispatching> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatching {
    /// Carries out what is due, on the thread of the vCPU.
    #[inline]
    pub(super) fn settle(&mut self) {
        if !self.due.is_empty() {
            self.carry_out();
        }
    }

    #[cold]
    fn carry_out(&mut self) {
        let host = &*self.dispatch.vm.host;
        for DueWrite { vcpu, index, value, initiator } in self.due.drain(..) {
            if !host.set_kvm_msr(vcpu, index, value, initiator) {
                tracing::warn!(
                    "KVM refuses {value:#x} for {} on {vcpu}, which a plugin wrote when it was \
                     swapped in",
                    index.described()
                );
            }
        }
    }
}
