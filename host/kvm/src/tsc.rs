//! The guest's time-stamp counter, as KVM tells of it.
#![expect(unsafe_code, reason = "an ioctl")]

use std::os::fd::AsRawFd;

use wasmsr_interface::MsrIndex;

use crate::ioctl;
use crate::kvm_msrs::KernelMsrs;
use crate::refused::Refused;
use crate::uapi::{ClockData, KVM_CLOCK_TSC_STABLE, KVM_GET_CLOCK, KVM_GET_TSC_KHZ};

const IA32_TSC: MsrIndex = MsrIndex(0x10);

/// The counter of this vCPU, now. KVM is asked each time, since the guest may write it.
pub(crate) fn now(msrs: &impl KernelMsrs) -> Option<u64> {
    msrs.read(IA32_TSC)
}

/// The counter's frequency on this vCPU, in kHz (`KVM_GET_TSC_KHZ`).
pub(crate) fn khz(vcpu: &impl AsRawFd) -> Result<u32, Refused> {
    ioctl::call_without(vcpu, KVM_GET_TSC_KHZ)
        .map_err(|error| Refused { step: "tell the frequency of the TSC", error })
}

/// Whether the counters of all vCPUs agree and will go on so (`KVM_GET_CLOCK`).
pub(crate) fn is_stable(vm: &impl AsRawFd) -> bool {
    let mut clock = ClockData::default();
    // SAFETY: the kernel writes one `struct kvm_clock_data`.
    let got = unsafe { ioctl::call(vm, KVM_GET_CLOCK, &raw mut clock) };
    got.is_ok() && clock.flags & KVM_CLOCK_TSC_STABLE != 0
}
