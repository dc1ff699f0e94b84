//! MSRs as plain values: indices and names, ranges, accesses and their
//! outcomes, the map from index to plugins, the policy for what nobody takes.
//! Everything here is a pure function of its inputs.

mod access;
mod exit_list;
mod index;
mod map;
mod policy;
mod range;

pub use access::{Direction, Directions, MsrAccess, MsrOp, Outcome, Reason, VcpuId};
pub use exit_list::{ExitClaim, ExitList};
pub use index::MsrIndex;
pub use map::{Claim, MsrMap, SeatId};
pub use policy::{Policy, PolicyAction, PolicyOverride};
pub use range::{MsrRange, ParseRangeError};
