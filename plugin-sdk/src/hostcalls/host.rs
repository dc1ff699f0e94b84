//! The physical CPU's MSRs. The manifest must ask for the capability
//! `host-msr` with the ranges it means, such as `host-msr:0x606-0x611`.

use crate::{MsrIndex, Refused, raw};

/// The value on the physical CPU that the vCPU runs on.
///
/// # Errors
/// [`Refused`] where the CPU has no such MSR or it is not within the granted
/// ranges.
pub fn rdmsr(index: MsrIndex) -> Result<u64, Refused> {
    let mut value = 0;
    Refused::unless_ok(raw::host_rdmsr(index.0, &mut value))?;
    Ok(value)
}
