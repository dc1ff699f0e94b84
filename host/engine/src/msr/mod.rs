//! MSRs on the engine's side: the map from index to plugins, the policy for
//! unhandled accesses. Everything here is a pure function of its inputs.

mod allow;
mod decision;
mod map;
mod policy;

pub use allow::{AllowEntry, AllowTable, MsrDefault};
pub(crate) use decision::Decision;
pub use map::{Claim, MsrMap, SlotId};
pub use policy::{Policy, PolicyAction, PolicyOverride};
