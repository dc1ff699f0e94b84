//! How much the guest has added to the time-stamp counters of its vCPUs.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{VcpuId, kvm, vcpus};

use crate::msr::IA32_TSC_ADJUST;

/// `IA32_TSC_ADJUST` of the vCPU that is being served.
pub(crate) fn served() -> u64 {
    // Every KVM has it; a host without a guest, as in `wasmsr check`, may not.
    kvm::rdmsr(IA32_TSC_ADJUST).unwrap_or(0)
}

/// `IA32_TSC_ADJUST` of each vCPU, as last seen. One page serves all vCPUs, so
/// it can only be right while the values are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Adjusts(Vec<u64>);

impl Adjusts {
    /// The values after a reset.
    pub(crate) fn new() -> Self {
        Adjusts(vec![0; vcpus::count().max(1) as usize])
    }

    /// Notes a vCPU's value.
    pub(crate) fn note(&mut self, vcpu: VcpuId, adjust: u64) {
        if let Some(noted) = self.0.get_mut(vcpu.0 as usize) {
            *noted = adjust;
        }
    }

    /// The value of all vCPUs, if it is the same.
    pub(crate) fn agreed(&self) -> Option<u64> {
        let (first, others) = self.0.split_first()?;
        others.iter().all(|other| other == first).then_some(*first)
    }

    /// Whether this belongs to a VM with as many vCPUs.
    pub(crate) fn is_of_this_vm(&self) -> bool {
        self.0.len() == Adjusts::new().0.len()
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::Host;

    use super::*;

    #[test]
    fn vcpus_agree_or_not() {
        let host = Host::fresh();
        host.set_vcpus(3);
        let mut adjusts = Adjusts::new();
        assert_eq!(adjusts.agreed(), Some(0));
        for (vcpu, agreed) in [(0, None), (1, None), (2, Some(7))] {
            adjusts.note(VcpuId(vcpu), 7);
            assert_eq!(adjusts.agreed(), agreed);
        }
        // There is no such vCPU.
        adjusts.note(VcpuId(3), 8);
        assert_eq!(adjusts.agreed(), Some(7));
        assert!(adjusts.is_of_this_vm());
        host.set_vcpus(2);
        assert!(!adjusts.is_of_this_vm());
    }

    #[test]
    fn a_kvm_without_the_msr_adds_nothing() {
        let host = Host::fresh();
        assert_eq!(served(), 0);
        host.set_kvm_msr(IA32_TSC_ADJUST, 9);
        assert_eq!(served(), 9);
    }
}
