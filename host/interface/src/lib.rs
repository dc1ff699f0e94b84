//! The seam between a VMM and what answers the MSR accesses of its guests.
//!
//! A vCPU loop turns an MSR exit into an [`MsrAccess`], gives it to an
//! [`MsrHandler`] and applies the [`Outcome`]. The engine that runs plugins is one
//! such handler; a `match` is another. In the other direction, plugins reach the
//! VM through a [`Host`]. [`ExitList`] says which accesses must exit, and
//! [`CpuidChange`] what the guest's CPUID must say.
//!
//! This crate has values and traits only. It knows no hypervisor and no plugin, so
//! whatever depends on it compiles neither.

mod access;
mod counted;
mod cpuid;
mod exit_list;
mod handler;
mod host;
mod index;
mod kernel;
mod kvm_answer;
mod no_guest;
mod outcome;
mod range;
#[cfg(feature = "serde")]
mod serde;

pub use access::{Direction, Directions, MAX_VCPUS, MsrAccess, MsrOp, Reason, VcpuId};
pub use counted::counted;
pub use cpuid::{CpuidChange, RegisterChange};
pub use exit_list::{Allowed, ExitClaim, ExitList, Unclaimed};
pub use handler::MsrHandler;
pub use host::{ExitsCause, ExitsRefused, Host, Initiator, OutsideMemory, VcpuTimes};
pub use index::MsrIndex;
pub use kernel::KernelVersion;
pub use kvm_answer::KvmAnswer;
pub use no_guest::NoGuest;
pub use outcome::{Outcome, OutcomeKind};
pub use range::{MsrRange, ParseRangeError};
