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

impl ExitList {
    /// What either lets exit.
    #[must_use]
    pub fn union(mut self, other: ExitList) -> ExitList {
        self.claims.extend(other.claims);
        self.unclaimed = match (self.unclaimed, other.unclaimed) {
            (Unclaimed::Kernel, unclaimed) | (unclaimed, Unclaimed::Kernel) => unclaimed,
            (Unclaimed::Exit(one), Unclaimed::Exit(other)) => Unclaimed::Exit(common(&one, &other)),
        };
        self
    }
}

/// What both leave in the kernel.
fn common(one: &[Allowed], other: &[Allowed]) -> Vec<Allowed> {
    if one == other {
        return one.to_vec();
    }
    let both = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
    let common = both.filter_map(|(a, b)| {
        let range = a.range.intersection(b.range)?;
        Some(Allowed { range, directions: a.directions.intersection(b.directions)? })
    });
    common.collect()
}

impl From<Vec<ExitClaim>> for ExitList {
    /// These claims; everything else stays in the kernel.
    fn from(claims: Vec<ExitClaim>) -> Self {
        ExitList { claims, unclaimed: Unclaimed::Kernel }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, last: u32) -> MsrRange {
        MsrRange::new(MsrIndex(first), MsrIndex(last)).unwrap()
    }

    fn list(
        claims: &[(u32, u32, Directions)],
        allowed: Option<&[(u32, u32, Directions)]>,
    ) -> ExitList {
        let claims = claims.iter().map(|&(a, b, to)| ExitClaim::new("p", range(a, b), to));
        let allow = |all: &[(u32, u32, Directions)]| {
            let all = all.iter();
            all.map(|&(a, b, directions)| Allowed { range: range(a, b), directions }).collect()
        };
        let unclaimed = allowed.map_or(Unclaimed::Kernel, |all| Unclaimed::Exit(allow(all)));
        ExitList { claims: claims.collect(), unclaimed }
    }

    fn exits(list: &ExitList, index: u32, direction: Direction) -> bool {
        let claimed = list.claims.iter().any(|claim| {
            claim.range.contains(MsrIndex(index)) && claim.directions.contains(direction)
        });
        claimed || list.unclaimed.exits(MsrIndex(index), direction)
    }

    #[test]
    fn a_union_lets_exit_what_either_does() {
        use Directions::{Read, ReadWrite, Write};
        let lists = [
            list(&[], None),
            list(&[(1, 3, Read)], None),
            list(&[(2, 5, Write), (1, 1, ReadWrite)], None),
            list(&[(4, 4, Read)], Some(&[])),
            list(&[(2, 2, Read)], Some(&[(0, 6, ReadWrite)])),
            list(&[], Some(&[(3, 9, Read), (1, 4, Write)])),
        ];
        for (one, other) in lists.iter().flat_map(|a| lists.iter().map(move |b| (a, b))) {
            let both = one.clone().union(other.clone());
            for index in 0..12 {
                for direction in [Direction::Read, Direction::Write] {
                    let either = exits(one, index, direction) || exits(other, index, direction);
                    assert_eq!(exits(&both, index, direction), either, "{one:?} {other:?} {index}");
                }
            }
        }
    }
}
