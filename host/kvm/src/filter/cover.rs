//! The smallest number of KVM ranges that express a list of runs.
//!
//! What follows speaks of accesses that exit while all others stay in the kernel. Where
//! all others exit, the runs are what stays, and the same holds with the two exchanged.
//!
//! A range decides reads, writes, or both with one bitmap. At each MSR whose
//! reads must exit, either a read range covers it, or a two-way range denies
//! it and a write range above it lets the writes through again; likewise with
//! reads and writes exchanged; and at an MSR of which both must exit, either a
//! two-way range, or a read and a write range. So each MSR needs a range of
//! its own kind, or one of each of the two other kinds.
//!
//! More coverage never hurts, so every range may be of full length, and may
//! begin at the first MSR that would be unserved without it. So one walk over the
//! MSRs in their order is enough, with at most two choices at each unserved MSR.
//! Of all walks, only those are kept that no other beats in every respect.

use super::limits::LAST_MSR;
use super::runs::{self, Kind, Run};

/// A range that the filter will hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) kind: Kind,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Cover {
    pub(super) fn contains(&self, msr: u32) -> bool {
        (self.first..=self.last).contains(&msr)
    }
}

/// The smallest cover of `runs` by ranges of at most `length` MSRs.
///
/// # Errors
/// The first MSR that remains unserved if more than `limit` ranges would be
/// needed.
pub(super) fn smallest(runs: &[Run], length: u32, limit: usize) -> Result<Vec<Cover>, u32> {
    let mut starts = Vec::new();
    let mut front = vec![Walk::default()];
    for run in runs {
        let mut served = Vec::new();
        let mut furthest = run.first;
        while let Some(walk) = front.pop() {
            match walk.unserved(run) {
                None => served.push(walk),
                Some(at) => {
                    furthest = furthest.max(at);
                    for kinds in [&[run.kind][..], &run.kind.others()[..]] {
                        front.extend(walk.begin(kinds, at, length, limit, &mut starts));
                    }
                }
            }
        }
        front = unbeaten(served, u64::from(run.last) + 1);
        if front.is_empty() {
            return Err(furthest);
        }
    }
    let best = front.into_iter().min_by_key(|walk| walk.count);
    Ok(best.map_or_else(Vec::new, |walk| walk.covers(&starts, runs, length)))
}

/// One way to have served all MSRs so far.
#[derive(Debug, Clone, Copy, Default)]
struct Walk {
    count: usize,
    /// End, exclusive, of the latest range of each kind.
    ends: [u64; 3],
    /// The latest range begun, in the list of all starts.
    latest: Option<usize>,
}

/// A range begun on some walk, and the one begun before it on that walk.
struct RangeStart {
    kind: Kind,
    at: u32,
    before: Option<usize>,
}

impl Walk {
    /// The first MSR of `run` that this walk's ranges leave unserved.
    fn unserved(&self, run: &Run) -> Option<u32> {
        let [one, other] = run.kind.others();
        let until = self.end(run.kind).max(self.end(one).min(self.end(other)));
        let at = until.max(u64::from(run.first));
        u32::try_from(at).ok().filter(|&at| at <= run.last)
    }

    /// This walk with ranges of `kinds` begun at `at`, where it has none.
    fn begin(
        mut self,
        kinds: &[Kind],
        at: u32,
        length: u32,
        limit: usize,
        starts: &mut Vec<RangeStart>,
    ) -> Option<Walk> {
        for &kind in kinds {
            if self.end(kind) > u64::from(at) {
                continue;
            }
            self.count += 1;
            *self.end_mut(kind) = u64::from(at) + u64::from(length);
            starts.push(RangeStart { kind, at, before: self.latest });
            self.latest = Some(starts.len() - 1);
        }
        (self.count <= limit).then_some(self)
    }

    /// Whether `other` can be forgotten beside this walk.
    fn beats(&self, other: &Walk) -> bool {
        self.count <= other.count && self.ends.iter().zip(&other.ends).all(|(a, b)| a >= b)
    }

    fn end(&self, kind: Kind) -> u64 {
        let [both, read, write] = self.ends;
        match kind {
            Kind::Both => both,
            Kind::Read => read,
            Kind::Write => write,
        }
    }

    fn end_mut(&mut self, kind: Kind) -> &mut u64 {
        let [both, read, write] = &mut self.ends;
        match kind {
            Kind::Both => both,
            Kind::Read => read,
            Kind::Write => write,
        }
    }

    /// The ranges of this walk, cut to the MSRs that they decide.
    fn covers(&self, starts: &[RangeStart], runs: &[Run], length: u32) -> Vec<Cover> {
        let mut covers = Vec::new();
        let mut next = self.latest;
        while let Some(start) = next.and_then(|index| starts.get(index)) {
            let reach = start.at.saturating_add(length - 1).min(LAST_MSR);
            let before_next = covers
                .iter()
                .rev()
                .find(|cover: &&Cover| cover.kind == start.kind)
                .map_or(u32::MAX, |cover| cover.first - 1);
            let last_run = runs::within(runs, start.at, reach).last();
            let last = last_run.map_or(start.at, |run| run.last);
            covers.push(Cover {
                kind: start.kind,
                first: start.at,
                last: last.min(reach).min(before_next),
            });
            next = start.before;
        }
        covers.reverse();
        covers
    }
}

/// The walks that no other beats, of those that stand before MSR `next`.
fn unbeaten(mut walks: Vec<Walk>, next: u64) -> Vec<Walk> {
    for walk in &mut walks {
        for end in &mut walk.ends {
            // Ends in the past are all alike.
            if *end <= next {
                *end = 0;
            }
        }
    }
    walks.sort_by_key(|walk| walk.count);
    let mut front: Vec<Walk> = Vec::new();
    for walk in walks {
        if !front.iter().any(|other| other.beats(&walk)) {
            front.retain(|other| !walk.beats(other));
            front.push(walk);
        }
    }
    front
}
