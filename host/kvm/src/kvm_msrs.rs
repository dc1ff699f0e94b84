//! KVM's own MSRs of one vCPU as a VMM has them: `KVM_GET_MSRS` and `KVM_SET_MSRS`, one
//! at a time, so that a refusal names its MSR, and without allocation. Neither looks at
//! the filter.
#![expect(unsafe_code, reason = "ioctls")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use wasmsr_interface::MsrIndex;

use crate::refused::Refused;
use crate::uapi::{KVM_GET_MSRS, KVM_SET_MSRS, MsrEntry, MsrsHeader, OneMsr};
use crate::{cpuid, ioctl};

/// Reads and writes MSRs as KVM has them: [`KvmMsrs`] as a VMM, [`AsGuest`](crate::AsGuest)
/// as the guest.
pub trait KernelMsrs {
    /// KVM's value; `None` if it has none.
    fn read(&self, index: MsrIndex) -> Option<u64>;

    /// Sets KVM's value; `false` if it refuses.
    #[must_use]
    fn write(&self, index: MsrIndex, value: u64) -> bool;
}

/// A second descriptor of a vCPU, for its MSRs alone: it can be used while the VMM's own
/// is borrowed. To be used by the thread that runs the vCPU; a call from another thread
/// waits until the vCPU exits.
#[derive(Debug, Clone)]
pub struct KvmMsrs(Arc<OwnedFd>);

impl KvmMsrs {
    /// Those of this vCPU, which has its CPUID. KVM's MSRs depend on it: since Linux 6.13
    /// those that stand for features read 0 before it is set, and take no other value.
    ///
    /// # Errors
    /// [`Refused`] if the vCPU has no CPUID yet, or if the process may open no more
    /// descriptors.
    pub fn of(vcpu: &impl AsRawFd) -> Result<Self, Refused> {
        if cpuid::cpuid_of(vcpu)?.is_empty() {
            let error = io::Error::other("its CPUID is not set; set it first");
            return Err(Refused { step: "have a vCPU's MSRs used", error });
        }
        match ioctl::duplicate(vcpu) {
            Ok(descriptor) => Ok(KvmMsrs(Arc::new(descriptor))),
            Err(error) => Err(Refused { step: "duplicate a vCPU's descriptor", error }),
        }
    }
}

impl AsRawFd for KvmMsrs {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl KernelMsrs for KvmMsrs {
    fn read(&self, index: MsrIndex) -> Option<u64> {
        let mut msr = one(index, 0);
        // SAFETY: KVM reads the header, and reads and writes as many entries behind it as
        // the header says: one.
        let done = unsafe { ioctl::call(self, KVM_GET_MSRS, &raw mut msr) };
        done.is_ok_and(|count| count == 1).then_some(msr.entry.data)
    }

    fn write(&self, index: MsrIndex, value: u64) -> bool {
        let mut msr = one(index, value);
        // SAFETY: KVM reads the header, and as many entries behind it as it says: one.
        let done = unsafe { ioctl::call(self, KVM_SET_MSRS, &raw mut msr) };
        done.is_ok_and(|count| count == 1)
    }
}

fn one(index: MsrIndex, data: u64) -> OneMsr {
    OneMsr {
        header: MsrsHeader { nmsrs: 1, pad: 0 },
        entry: MsrEntry { index: index.0, reserved: 0, data },
    }
}
