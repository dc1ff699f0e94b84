//! The exit list as sorted, disjoint runs of MSRs that are exceptions to the filter's
//! default in the same directions.

use std::collections::BTreeMap;

use wasmsr_interface::{Direction, Directions, ExitList, MsrRange, Unclaimed};

use super::limits::x2apic;

/// Which accesses of an MSR are exceptions, or which accesses a range decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Both,
    Read,
    Write,
}

impl Kind {
    /// The two that together stand in for this one.
    pub(super) fn others(self) -> [Kind; 2] {
        match self {
            Kind::Both => [Kind::Read, Kind::Write],
            Kind::Read => [Kind::Both, Kind::Write],
            Kind::Write => [Kind::Both, Kind::Read],
        }
    }
}

/// Consecutive MSRs of which the same directions are exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) kind: Kind,
}

/// The exceptions, sorted by index: what exits, if all else stays in the kernel; or
/// what stays there, if all else exits.
pub(super) fn collect(exits: &ExitList) -> Vec<Run> {
    let claims = exits.claims.iter().map(|claim| (claim.range, claim.directions));
    match &exits.unclaimed {
        Unclaimed::Kernel => sweep(claims, &[]),
        Unclaimed::Exit(allowed) => {
            let allowed = allowed.iter().map(|one| (one.range, one.directions));
            // The filter does not decide the x2APIC's MSRs, so they need no range.
            let not: Vec<_> = claims.chain([(x2apic(), Directions::ReadWrite)]).collect();
            sweep(allowed, &not)
        }
    }
}

/// Merges all of `yes`, without what is in `not`.
fn sweep(
    yes: impl Iterator<Item = (MsrRange, Directions)>,
    not: &[(MsrRange, Directions)],
) -> Vec<Run> {
    // How many of each begin or end at an index, by direction.
    let mut edges: BTreeMap<u64, [Depth; 2]> = BTreeMap::new();
    let yes = yes.map(|one| (0, one));
    for (which, (range, directions)) in yes.chain(not.iter().map(|&one| (1, one))) {
        let end = u64::from(range.last().0) + 1;
        for (at, sign) in [(u64::from(range.first().0), 1), (end, -1)] {
            let edge = edges.entry(at).or_default();
            if let Some(depth) = edge.get_mut(which) {
                depth.add(directions, sign);
            }
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut depths = [Depth::default(); 2];
    let mut edges = edges.into_iter().peekable();
    while let Some((at, edge)) = edges.next() {
        for (depth, change) in depths.iter_mut().zip(edge) {
            depth.read += change.read;
            depth.write += change.write;
        }
        let [yes, not] = depths;
        let kind = match (yes.read > 0 && not.read == 0, yes.write > 0 && not.write == 0) {
            (true, true) => Kind::Both,
            (true, false) => Kind::Read,
            (false, true) => Kind::Write,
            (false, false) => continue,
        };
        let Some(&(end, _)) = edges.peek() else { break };
        let (Ok(first), Ok(last)) = (u32::try_from(at), u32::try_from(end - 1)) else { break };
        match runs.last_mut() {
            Some(run) if run.kind == kind && run.last.checked_add(1) == Some(first) => {
                run.last = last;
            }
            _ => runs.push(Run { first, last, kind }),
        }
    }
    runs
}

/// How many ranges lie over an MSR, by direction.
#[derive(Debug, Clone, Copy, Default)]
struct Depth {
    read: i64,
    write: i64,
}

impl Depth {
    fn add(&mut self, directions: Directions, sign: i64) {
        self.read += sign * i64::from(directions.contains(Direction::Read));
        self.write += sign * i64::from(directions.contains(Direction::Write));
    }
}

/// The runs that touch `first..=last`.
pub(super) fn within(runs: &[Run], first: u32, last: u32) -> impl Iterator<Item = &Run> {
    let from = runs.partition_point(|run| run.last < first);
    runs.iter().skip(from).take_while(move |run| run.first <= last)
}
