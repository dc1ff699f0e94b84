//! What a second VM is made with.

use std::os::fd::OwnedFd;

/// What the second VMs are made with.
#[derive(Debug)]
pub(crate) struct Site {
    /// `/dev/kvm`
    pub(crate) kvm: OwnedFd,
    /// First address and length of the guest's RAM: some MSRs take addresses.
    pub(crate) ram: Vec<(u64, u64)>,
    /// Whether KVM has the guest's local APICs.
    pub(crate) local_apic: bool,
}
