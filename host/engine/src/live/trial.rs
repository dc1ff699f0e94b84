//! A set on probation, and how that ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::exchange::Former;
use super::fate::Fate;
use super::set::{Set, Sources};
use crate::shadow::{Judge, ReturnCause};

/// A set on probation, with the one that it replaced.
pub(super) struct Trial {
    pub(super) judge: Arc<Judge>,
    pub(super) former: Former,
    pub(super) set: Set,
    pub(super) fates: BTreeMap<Arc<str>, Fate>,
    pub(super) sources: Sources,
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
