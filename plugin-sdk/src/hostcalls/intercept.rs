//! Which of the plugin's MSRs leave the kernel, changed while the guest runs.
//! The manifest must ask for the capability `intercept`.

use core::fmt;
use core::ops::RangeInclusive;

use crate::{MsrIndex, abi, raw};

/// Which accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directions {
    /// `rdmsr`
    Read = abi::DIRECTION_READ as isize,
    /// `wrmsr`
    Write = abi::DIRECTION_WRITE as isize,
    /// Both.
    ReadWrite = (abi::DIRECTION_READ | abi::DIRECTION_WRITE) as isize,
}

/// From now on the plugin answers these MSRs.
///
/// # Errors
/// See [`InterceptError`]; nothing is then changed.
pub fn widen(msrs: RangeInclusive<MsrIndex>, directions: Directions) -> Result<(), InterceptError> {
    change(msrs, directions, 1)
}

/// From now on KVM answers these MSRs.
///
/// # Errors
/// See [`InterceptError`]; nothing is then changed.
pub fn narrow(
    msrs: RangeInclusive<MsrIndex>,
    directions: Directions,
) -> Result<(), InterceptError> {
    change(msrs, directions, 0)
}

/// Why the intercepts stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InterceptError {
    /// Not all of the MSRs are in the plugin's manifest.
    OutsideManifest,
    /// KVM's filter cannot hold the result: it has 16 ranges.
    DoesNotFit,
}

impl fmt::Display for InterceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InterceptError::OutsideManifest => "not all of the MSRs are in the plugin's manifest",
            InterceptError::DoesNotFit => "the MSR filter of KVM cannot hold the change",
        })
    }
}

impl core::error::Error for InterceptError {}

fn change(
    msrs: RangeInclusive<MsrIndex>,
    directions: Directions,
    on: u32,
) -> Result<(), InterceptError> {
    match raw::intercept(msrs.start().0, msrs.end().0, directions as u32, on) {
        abi::OK => Ok(()),
        abi::INTERCEPT_OUTSIDE => Err(InterceptError::OutsideManifest),
        _ => Err(InterceptError::DoesNotFit),
    }
}
