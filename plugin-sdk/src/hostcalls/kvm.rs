//! KVM's own MSRs, on the vCPU that is being served. The manifest must ask for the
//! capability `kvm-msr`.
//!
//! [`rdmsr`] and [`wrmsr`] are the VMM's: they show and set what KVM holds, for a value
//! that is to be there from the beginning or to be restored. [`rdmsr_as_guest`] and
//! [`wrmsr_as_guest`] are what the guest's own instruction would get and do without this
//! plugin. They are for what the guest asks for: KVM lets a VMM do what it refuses to
//! a guest.

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

/// What KVM alone gives the guest for its `rdmsr`.
///
/// # Errors
/// [`Refused`] if that is a #GP.
pub fn rdmsr_as_guest(index: MsrIndex) -> Result<u64, Refused> {
    let mut value = 0;
    Refused::unless_ok(raw::kvm_rdmsr_as_guest(index.0, &mut value))?;
    Ok(value)
}

/// Does what KVM alone does for the guest's `wrmsr`. KVM may drop read-only bits, or the
/// whole write, without a refusal.
///
/// # Errors
/// [`Refused`] if that is a #GP; nothing is changed then.
pub fn wrmsr_as_guest(index: MsrIndex, value: u64) -> Result<(), Refused> {
    Refused::unless_ok(raw::kvm_wrmsr_as_guest(index.0, value))
}
