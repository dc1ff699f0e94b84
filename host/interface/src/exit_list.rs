//! What must exit: every MSR that a loaded plugin claims, in the directions that it
//! claims, and what the profile says of all other MSRs. A VMM that cannot filter one
//! names the plugin in its error.

use std::sync::Arc;

use crate::access::{Direction, Directions};
use crate::index::MsrIndex;
use crate::range::MsrRange;

/// The accesses that must leave the kernel, in the order of the profile.
/// Claims may overlap: a second plugin may claim an MSR as the first one's fallback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitList {
    /// One entry per claim of a manifest, or per part of it that exits at present.
    pub claims: Vec<ExitClaim>,
    /// What becomes of all other accesses.
    pub unclaimed: Unclaimed,
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

impl ExitClaim {
    /// A claim of this plugin.
    pub fn new(plugin: impl Into<Arc<str>>, range: MsrRange, directions: Directions) -> Self {
        ExitClaim { plugin: plugin.into(), range, directions }
    }
}

/// What becomes of the accesses that no plugin claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unclaimed {
    /// They stay in the kernel, as far as KVM answers them.
    #[default]
    Kernel,
    /// They exit, but for these.
    Exit(Vec<Allowed>),
}

/// Accesses that stay in the kernel where others exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions.
    pub directions: Directions,
}

impl Unclaimed {
    /// Whether an access exits if no plugin claims it.
    pub fn exits(&self, index: MsrIndex, direction: Direction) -> bool {
        match self {
            Unclaimed::Kernel => false,
            Unclaimed::Exit(allowed) => !allowed
                .iter()
                .any(|one| one.directions.contains(direction) && one.range.contains(index)),
        }
    }
}

impl From<Vec<ExitClaim>> for ExitList {
    /// These claims; everything else stays in the kernel.
    fn from(claims: Vec<ExitClaim>) -> Self {
        ExitList { claims, unclaimed: Unclaimed::Kernel }
    }
}
