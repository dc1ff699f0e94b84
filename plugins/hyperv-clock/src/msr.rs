//! Numbers of the MSRs, with the names of Linux (`hyperv-tlfs.h`).

use wasmsr_sdk::MsrIndex;

pub(crate) const HV_X64_MSR_GUEST_OS_ID: MsrIndex = MsrIndex(0x4000_0000);
pub(crate) const HV_X64_MSR_HYPERCALL: MsrIndex = MsrIndex(0x4000_0001);
pub(crate) const HV_X64_MSR_VP_INDEX: MsrIndex = MsrIndex(0x4000_0002);
pub(crate) const HV_X64_MSR_VP_RUNTIME: MsrIndex = MsrIndex(0x4000_0010);
pub(crate) const HV_X64_MSR_TIME_REF_COUNT: MsrIndex = MsrIndex(0x4000_0020);
pub(crate) const HV_X64_MSR_REFERENCE_TSC: MsrIndex = MsrIndex(0x4000_0021);
pub(crate) const HV_X64_MSR_TSC_FREQUENCY: MsrIndex = MsrIndex(0x4000_0022);
pub(crate) const HV_X64_MSR_APIC_FREQUENCY: MsrIndex = MsrIndex(0x4000_0023);
pub(crate) const HV_X64_MSR_VP_ASSIST_PAGE: MsrIndex = MsrIndex(0x4000_0073);
pub(crate) const HV_X64_MSR_CRASH_P0: MsrIndex = MsrIndex(0x4000_0100);
pub(crate) const HV_X64_MSR_CRASH_CTL: MsrIndex = MsrIndex(0x4000_0105);

/// `IA32_TSC_ADJUST` (Intel SDM, volume 3, 18.17.3): what a guest has added to
/// its time-stamp counter, by writing this MSR or the counter itself.
pub(crate) const IA32_TSC_ADJUST: MsrIndex = MsrIndex(0x3b);
