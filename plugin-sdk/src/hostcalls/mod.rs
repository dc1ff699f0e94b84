//! The host's services, a module for each capability.

pub mod host;
pub mod intercept;
pub mod kvm;
pub mod log;
pub mod memory;
pub mod time;
pub mod timer;
pub mod vcpus;

use core::fmt;

use crate::{Otherwise, abi};

/// The host, or KVM, refused the request.
///
/// With `?` in [`Plugin::rdmsr`](crate::Plugin::rdmsr) or
/// [`Plugin::wrmsr`](crate::Plugin::wrmsr) it becomes a fault in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refused;

impl Refused {
    fn unless_ok(status: u32) -> Result<(), Refused> {
        if status == abi::OK { Ok(()) } else { Err(Refused) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host refuses")
    }
}

impl core::error::Error for Refused {}

impl From<Refused> for Otherwise {
    fn from(_: Refused) -> Self {
        Otherwise::Fault
    }
}
