//! A set on probation, and how that ends.

use std::sync::Arc;

use super::exchange::Former;
use super::fate::Fates;
use super::set::Set;
use crate::shadow::{Judge, ReturnCause};

/// A set on probation, with the one that it replaced.
pub(super) struct Trial {
    pub(super) judge: Arc<Judge>,
    pub(super) former: Former,
    pub(super) set: Set,
    pub(super) fates: Fates,
}

/// How a probation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The set stays.
    Kept,
    /// The former set is in charge again.
    Returned(ReturnCause),
    /// The former set is in charge again, by hand.
    RolledBack,
    /// The VM ended before.
    Ended,
}
