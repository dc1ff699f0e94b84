//! How an access was decided.

use wasmsr_interface::Outcome;

use super::map::SlotId;

/// How an access was decided.
#[derive(Debug)]
pub(crate) struct Decision {
    /// What the VMM must do.
    pub(crate) outcome: Outcome,
    /// The slot whose plugin decided; `None` for the profile's policy.
    pub(crate) by: Option<SlotId>,
    /// Whether that plugin failed, so that its `on-failure` gave the outcome.
    pub(crate) failed: bool,
}
