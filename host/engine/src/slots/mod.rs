//! The slots of a vCPU: in each sits a plugin's instance, which is replaced when it
//! fails, and an access is routed to the slots that may answer it.

mod backoff;
mod routes;
mod slot;
mod supervised;

pub(crate) use routes::{Routes, assign_slots};
pub(crate) use slot::{Slot, SlotPlan, lock};
pub(crate) use supervised::SupervisedInstance;
