//! The slots of a vCPU's dispatch chain: each has a plugin's instance, which is
//! replaced when it fails, and accesses are routed to the slots that may answer them.

mod backoff;
mod located;
mod routes;
mod slot;
mod supervised;

pub(crate) use located::Located;
pub(crate) use routes::{Routes, assign_slots};
pub(crate) use slot::{Slot, SlotPlan, lock};
pub(crate) use supervised::SupervisedInstance;
