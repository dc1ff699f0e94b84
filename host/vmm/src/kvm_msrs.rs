//! KVM's own MSRs of one vCPU: `KVM_GET_MSRS` and `KVM_SET_MSRS`, one at a
//! time and without allocation, from beside the vCPU's loop.
#![expect(unsafe_code, reason = "ioctls that kvm-ioctls offers only with a list on the heap")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use kvm_bindings::{KVMIO, kvm_msr_entry, kvm_msrs};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::{ioctl_with_mut_ref, ioctl_with_ref};
use vmm_sys_util::{ioctl_iow_nr, ioctl_iowr_nr};
use wasmsr_interface::MsrIndex;

/// Reads and writes MSRs as KVM has them, past the filter.
pub(crate) trait KernelMsrs {
    /// KVM's value; `None` where it has none.
    fn read(&self, index: MsrIndex) -> Option<u64>;

    /// Sets KVM's value; `false` where it refuses.
    #[must_use]
    fn write(&self, index: MsrIndex, value: u64) -> bool;
}

/// A second descriptor of a vCPU, for its MSRs alone. Its user is the thread
/// that runs the vCPU: from elsewhere, a call waits until the vCPU exits.
#[derive(Debug)]
pub(crate) struct KvmMsrs(OwnedFd);

impl KvmMsrs {
    pub(crate) fn of(vcpu: &VcpuFd) -> io::Result<Self> {
        // SAFETY: `vcpu` keeps its descriptor open during the call.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        fd.try_clone_to_owned().map(KvmMsrs)
    }
}

impl KernelMsrs for KvmMsrs {
    fn read(&self, index: MsrIndex) -> Option<u64> {
        let mut msr = OneMsr::new(index, 0);
        // SAFETY: KVM reads the header and reads and writes `nmsrs` entries
        // behind it, of which there is one.
        let done = unsafe { ioctl_with_mut_ref(&self.0, KVM_GET_MSRS(), &mut msr) };
        (done == 1).then_some(msr.entry.data)
    }

    fn write(&self, index: MsrIndex, value: u64) -> bool {
        let msr = OneMsr::new(index, value);
        // SAFETY: KVM reads the header and `nmsrs` entries behind it, of which
        // there is one.
        let done = unsafe { ioctl_with_ref(&self.0, KVM_SET_MSRS(), &msr) };
        done == 1
    }
}

// KVM api 4.18 and 4.19; both numbers count the header alone.
ioctl_iowr_nr!(KVM_GET_MSRS, KVMIO, 0x88, kvm_msrs);
ioctl_iow_nr!(KVM_SET_MSRS, KVMIO, 0x89, kvm_msrs);

/// `struct kvm_msrs` with one entry.
#[repr(C)]
struct OneMsr {
    nmsrs: u32,
    pad: u32,
    entry: kvm_msr_entry,
}

impl OneMsr {
    fn new(index: MsrIndex, data: u64) -> Self {
        OneMsr { nmsrs: 1, pad: 0, entry: kvm_msr_entry { index: index.0, reserved: 0, data } }
    }
}
