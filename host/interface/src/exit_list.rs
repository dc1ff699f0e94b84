//! What must exit: every MSR that a loaded plugin named, in the directions it
//! named, with the plugin's name for the errors of a VMM that cannot filter it.

use std::sync::Arc;

use crate::access::Directions;
use crate::range::MsrRange;

/// The accesses that must leave the kernel, in the order of the profile.
/// Claims may overlap: a fallback plugin claims what another has claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitList {
    /// One entry a claim of a manifest.
    pub claims: Vec<ExitClaim>,
}

/// One claim of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitClaim {
    /// The plugin's name from its manifest.
    pub plugin: Arc<str>,
    /// The MSRs that must exit.
    pub range: MsrRange,
    /// In which directions.
    pub directions: Directions,
}
