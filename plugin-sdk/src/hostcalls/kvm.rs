//! KVM's own values of MSRs, on the vCPU that is being served. The manifest
//! must ask for the capability `kvm-msr`.

use crate::{MsrIndex, Refused, raw};

/// The value that KVM holds.
///
/// # Errors
/// [`Refused`] if KVM has no such MSR.
pub fn rdmsr(index: MsrIndex) -> Result<u64, Refused> {
    let mut value = 0;
    Refused::unless_ok(raw::kvm_rdmsr(index.0, &mut value))?;
    Ok(value)
}

/// Sets the value that KVM holds.
///
/// # Errors
/// [`Refused`] if KVM has no such MSR or refuses the value.
pub fn wrmsr(index: MsrIndex, value: u64) -> Result<(), Refused> {
    Refused::unless_ok(raw::kvm_wrmsr(index.0, value))
}
