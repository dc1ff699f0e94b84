//! Writes of the time-stamp counter as a guest does them: both move the counter, and the
//! counter's other MSR follows (SDM volume 3, "Time-Stamp Counter Adjustment"). The host's
//! door does neither: it takes 0x10 for a value to be restored, which KVM may round to that of
//! another vCPU, and 0x3b for a number.
#![expect(unsafe_code, reason = "ioctls")]

use std::io;

use wasmsr_interface::MsrIndex;

use crate::ioctl;
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::uapi::{
    DeviceAttribute, KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR, KVM_VCPU_TSC_CTRL,
    KVM_VCPU_TSC_OFFSET,
};

/// IA32_TIME_STAMP_COUNTER
pub(super) const TSC: MsrIndex = MsrIndex(0x10);
/// IA32_TSC_ADJUST
pub(super) const TSC_ADJUST: MsrIndex = MsrIndex(0x3b);

/// IA32_TIME_STAMP_COUNTER becomes `value`, and IA32_TSC_ADJUST moves as far.
pub(super) fn write_tsc(msrs: &KvmMsrs, value: u64) -> bool {
    let Some(now) = msrs.read(TSC) else { return false };
    let by = value.wrapping_sub(now);
    if move_offset(msrs, by).is_err() {
        // Linux before 5.16 has no offset to be set.
        return msrs.write(TSC, value);
    }
    // A KVM without it leaves the counter alone in it.
    let followed = msrs.read(TSC_ADJUST).map(|held| held.wrapping_add(by));
    followed.is_none_or(|followed| msrs.write(TSC_ADJUST, followed))
}

/// IA32_TSC_ADJUST becomes `value`, and the counter moves as far.
pub(super) fn write_tsc_adjust(msrs: &KvmMsrs, value: u64) -> bool {
    let Some(before) = msrs.read(TSC_ADJUST) else { return false };
    if !msrs.write(TSC_ADJUST, value) {
        return false;
    }
    // KVM ignores the write if the guest's CPUID does not announce the MSR.
    let by = msrs.read(TSC_ADJUST).unwrap_or(before).wrapping_sub(before);
    by == 0
        || move_offset(msrs, by).is_ok()
        || msrs.read(TSC).is_some_and(|now| msrs.write(TSC, now.wrapping_add(by)))
}

/// Guest TSC = host TSC × ratio + offset (`KVM_VCPU_TSC_OFFSET`, since Linux 5.16).
fn move_offset(msrs: &KvmMsrs, by: u64) -> io::Result<()> {
    let mut offset = 0_u64;
    let mut attribute = DeviceAttribute {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET,
        addr: (&raw mut offset).expose_provenance() as u64,
    };
    // SAFETY: the kernel reads the attribute and writes eight bytes at its address, where
    // `offset` is.
    unsafe { ioctl::call(msrs, KVM_GET_DEVICE_ATTR, &raw mut attribute) }?;
    let mut moved = offset.wrapping_add(by);
    attribute.addr = (&raw mut moved).expose_provenance() as u64;
    // SAFETY: the kernel reads the attribute, and eight bytes at its address: `moved`.
    unsafe { ioctl::call(msrs, KVM_SET_DEVICE_ATTR, &raw mut attribute) }?;
    Ok(())
}
