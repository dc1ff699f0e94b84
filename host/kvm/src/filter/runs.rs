//! The exit list as sorted, disjoint runs of MSRs that exit alike.

use std::collections::BTreeMap;

use wasmsr_interface::{Direction, ExitList};

/// Which accesses of an MSR must exit, or which accesses a range decides.
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

/// Consecutive MSRs of which the same directions must exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) kind: Kind,
}

/// Merges all claims, sorted by index.
pub(super) fn collect(exits: &ExitList) -> Vec<Run> {
    // How many claims of each direction begin or end at an index: a sweep.
    let mut edges: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
    for claim in &exits.claims {
        let read = i64::from(claim.directions.contains(Direction::Read));
        let write = i64::from(claim.directions.contains(Direction::Write));
        let first = u64::from(claim.range.first().0);
        let end = u64::from(claim.range.last().0) + 1;
        for (at, sign) in [(first, 1), (end, -1)] {
            let edge = edges.entry(at).or_default();
            edge.0 += sign * read;
            edge.1 += sign * write;
        }
    }
    let mut runs: Vec<Run> = Vec::new();
    let (mut reads, mut writes) = (0, 0);
    let mut edges = edges.into_iter().peekable();
    while let Some((at, (read, write))) = edges.next() {
        reads += read;
        writes += write;
        let kind = match (reads > 0, writes > 0) {
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

/// The runs that touch `first..=last`.
pub(super) fn within(runs: &[Run], first: u32, last: u32) -> impl Iterator<Item = &Run> {
    let from = runs.partition_point(|run| run.last < first);
    runs.iter().skip(from).take_while(move |run| run.first <= last)
}
