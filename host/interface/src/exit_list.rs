//! What must exit: every MSR that a loaded plugin claims, in the directions that it
//! claims. A VMM that cannot filter one names the plugin in its error.

use std::sync::Arc;

use crate::access::Directions;
use crate::range::MsrRange;

/// The accesses that must leave the kernel, in the order of the profile.
/// Claims may overlap: a second plugin may claim an MSR as the first one's fallback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitList {
    /// One entry per claim of a manifest.
    pub claims: Vec<ExitClaim>,
}

/// One claim of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitClaim {
    /// The plugin's name from its manifest.
    pub plugin: Arc<str>,
    /// The MSRs that must exit.
    pub range: MsrRange,
    /// The directions in which they must exit.
    pub directions: Directions,
}
