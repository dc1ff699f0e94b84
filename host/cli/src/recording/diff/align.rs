//! Aligns two sequences of accesses with as few differences as possible.
//!
//! An access that only one side has counts as one difference, and so does a pair of
//! the same access with different answers: an edit distance in which a substitution
//! needs the same access. The method is that of Myers ("An O(ND) Difference Algorithm",
//! 1986, with the divide and conquer of its section 4b): time grows with the number of
//! accesses and the square of the differences, memory with the differences alone.
//!
//! Sequences with little in common would take hours, so the work is bounded. If a step
//! would take too long, the sequences are cut where a rare run of accesses is the same
//! in both, or else where the furthest path ends. There may then be an alignment with
//! fewer differences, and the caller can ask whether that is so.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

/// An access, reduced to what is compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Did {
    /// The number of what the guest did.
    pub(super) deed: u32,
    /// The number of its answer.
    pub(super) answer: u32,
    /// The time.
    pub(super) t: u64,
}

impl Did {
    fn is_same(self, other: Did) -> bool {
        self.deed == other.deed && self.answer == other.answer
    }
}

/// How much work is still allowed, in compared places.
pub(super) struct Effort {
    left: u64,
    /// The least that a step may use, whatever is left.
    least: u64,
    exceeded: bool,
}

impl Default for Effort {
    /// Enough for 8000 differences in one step, and some seconds in all.
    fn default() -> Self {
        Effort { left: 1 << 28, least: 1 << 16, exceeded: false }
    }
}

impl Effort {
    /// Whether a step would have taken too long, so that there may be a better
    /// alignment.
    pub(super) fn was_exceeded(&self) -> bool {
        self.exceeded
    }

    fn of_a_step(&self) -> u64 {
        (self.left / 8).max(self.least)
    }

    fn spend(&mut self, work: u64) {
        self.left = self.left.saturating_sub(work);
    }
}

/// Calls `pair`, in order, with each access that one side has alone and each pair that
/// both have.
pub(super) fn align<'a>(
    a: &'a [Did],
    b: &'a [Did],
    effort: &mut Effort,
    mut pair: impl FnMut(Option<&'a Did>, Option<&'a Did>),
) {
    let mut done = Place { a: 0, b: 0 };
    let alone = |from: Place, to: Place, pair: &mut dyn FnMut(_, _)| {
        for did in a.get(from.a..to.a).unwrap_or_default() {
            pair(Some(did), None);
        }
        for did in b.get(from.b..to.b).unwrap_or_default() {
            pair(None, Some(did));
        }
    };
    find_pairs(a, b, effort, |Pairs { at, count }| {
        alone(done, at, &mut pair);
        done = Place { a: at.a + count, b: at.b + count };
        let (a, b) = (a.get(at.a..done.a), b.get(at.b..done.b));
        for (a, b) in a.unwrap_or_default().iter().zip(b.unwrap_or_default()) {
            pair(Some(a), Some(b));
        }
    });
    alone(done, Place { a: a.len(), b: b.len() }, &mut pair);
}

/// A place between accesses, in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    a: usize,
    b: usize,
}

/// This many accesses of both sides belong together.
#[derive(Debug)]
struct Pairs {
    at: Place,
    count: usize,
}

/// The work that is left, the next step last.
enum Task {
    Align { from: Place, to: Place },
    Found(Pairs),
}

fn find_pairs(a: &[Did], b: &[Did], effort: &mut Effort, mut found: impl FnMut(Pairs)) {
    let whole = Task::Align { from: Place { a: 0, b: 0 }, to: Place { a: a.len(), b: b.len() } };
    let mut tasks = vec![whole];
    while let Some(task) = tasks.pop() {
        let (from, to) = match task {
            Task::Found(pairs) => {
                found(pairs);
                continue;
            }
            Task::Align { from, to } => (from, to),
        };
        let part = Part {
            a: a.get(from.a..to.a).unwrap_or_default(),
            b: b.get(from.b..to.b).unwrap_or_default(),
        };
        let before = part.common_before();
        let part = part.after(before);
        let behind = part.common_behind();
        let part = part.without_last(behind);
        effort.spend((before + behind) as u64);
        if before > 0 {
            found(Pairs { at: from, count: before });
        }
        let from = Place { a: from.a + before, b: from.b + before };
        let to = Place { a: to.a - behind, b: to.b - behind };
        if behind > 0 {
            tasks.push(Task::Found(Pairs { at: to, count: behind }));
        }
        let cuts = match (part.a, part.b) {
            ([], _) | (_, []) => continue,
            ([one], [other]) => {
                if one.deed == other.deed {
                    found(Pairs { at: from, count: 1 });
                }
                continue;
            }
            _ => part.cuts(effort),
        };
        let mut end = to;
        for cut in cuts.into_iter().rev() {
            let cut = Place { a: from.a + cut.a, b: from.b + cut.b };
            tasks.push(Task::Align { from: cut, to: end });
            end = cut;
        }
        tasks.push(Task::Align { from, to: end });
    }
}

/// A part of both sequences.
#[derive(Clone, Copy)]
struct Part<'a> {
    a: &'a [Did],
    b: &'a [Did],
}

impl<'a> Part<'a> {
    fn common_before(self) -> usize {
        self.a.iter().zip(self.b).take_while(|(a, b)| a.is_same(**b)).count()
    }

    fn common_behind(self) -> usize {
        self.a.iter().rev().zip(self.b.iter().rev()).take_while(|(a, b)| a.is_same(**b)).count()
    }

    fn after(self, count: usize) -> Part<'a> {
        Part {
            a: self.a.get(count..).unwrap_or_default(),
            b: self.b.get(count..).unwrap_or_default(),
        }
    }

    fn without_last(self, count: usize) -> Part<'a> {
        let cut = |dids: &'a [Did]| dids.get(..dids.len() - count).unwrap_or_default();
        Part { a: cut(self.a), b: cut(self.b) }
    }

    /// Where to cut it into two parts that can be aligned separately.
    fn cuts(self, effort: &mut Effort) -> Vec<Place> {
        let furthest = match self.middle(effort) {
            Middle::Found(middle) => return vec![middle],
            Middle::TooFar(furthest) => furthest,
        };
        effort.exceeded = true;
        if effort.left == 0 {
            return vec![furthest];
        }
        effort.spend((self.a.len() + self.b.len()) as u64);
        let with_answers = |did: &Did| u64::from(did.deed) << 32 | u64::from(did.answer);
        let mut cuts = self.landmarks(with_answers);
        if cuts.is_empty() {
            cuts = self.landmarks(|did| u64::from(did.deed));
        }
        if cuts.is_empty() { vec![furthest] } else { cuts }
    }

    /// A place in the middle of a shortest path: before it are as many differences as
    /// behind it, or one more.
    fn middle(self, effort: &mut Effort) -> Middle {
        let (a, b) = (self.a, self.b);
        let (all_a, all_b) = (a.len(), b.len());
        let pair = |place: Place| Some((a.get(place.a)?, b.get(place.b)?));
        let pair_behind = |place: Place| {
            let last = |all: usize, behind: usize| all.checked_sub(behind + 1);
            Some((a.get(last(all_a, place.a)?)?, b.get(last(all_b, place.b)?)?))
        };
        let mirrored = |place: Place| Place { a: all_a - place.a, b: all_b - place.b };
        let (mut ahead, mut back) = (Reach::new(all_a, all_b), Reach::new(all_a, all_b));
        let allowed = effort.of_a_step();
        loop {
            ahead.advance(pair);
            if let Some(place) = ahead.meets(&back) {
                effort.spend(ahead.work + back.work);
                return Middle::Found(place);
            }
            back.advance(pair_behind);
            if let Some(place) = back.meets(&ahead) {
                effort.spend(ahead.work + back.work);
                return Middle::Found(mirrored(place));
            }
            if ahead.work + back.work > allowed {
                effort.spend(ahead.work + back.work);
                let (front, rear) = (ahead.furthest(), back.furthest());
                let is_front = front.a + front.b >= rear.a + rear.b;
                return Middle::TooFar(if is_front { front } else { mirrored(rear) });
            }
        }
    }

    /// Where a run of accesses begins that each side has exactly once, with such runs in
    /// the same order on both sides.
    fn landmarks(self, key: impl Fn(&Did) -> u64) -> Vec<Place> {
        // A random state: a hostile recording cannot provoke collisions.
        let secret = RandomState::new();
        let longest = self.a.len().max(self.b.len()) as u64;
        let one_of = longest.div_ceil(MOST_LANDMARKS);
        let mut seen: HashMap<u64, (Seen, Seen)> = HashMap::new();
        let hash = |did: &Did| secret.hash_one(key(did));
        for (at, run) in runs(self.a, &hash).filter(|(_, run)| (run >> 20).is_multiple_of(one_of)) {
            seen.entry(run).or_default().0.add(at);
        }
        for (at, run) in runs(self.b, &hash).filter(|(_, run)| (run >> 20).is_multiple_of(one_of)) {
            if let Some(found) = seen.get_mut(&run) {
                found.1.add(at);
            }
        }
        let mut places: Vec<Place> = seen
            .into_values()
            .filter_map(|found| match found {
                (Seen::Once(a), Seen::Once(b)) => Some(Place { a, b }),
                _ => None,
            })
            .collect();
        places.sort_unstable_by_key(|place| place.a);
        let mut places = longest_rise(&places);
        // The rest of the diagonal follows without further work.
        let mut before = None;
        places.retain(|place| {
            let diagonal = Some(place.a.wrapping_sub(place.b));
            std::mem::replace(&mut before, diagonal) != diagonal
        });
        // A cut at the very beginning would leave the part as it is.
        places.retain(|place| place.a + place.b > 0);
        places
    }
}

/// The length of the runs that are searched.
const RUN: usize = 64;

/// Most runs that are remembered.
const MOST_LANDMARKS: u64 = 1 << 20;

/// How often a run was seen.
#[derive(Default)]
enum Seen {
    #[default]
    Never,
    Once(usize),
    Often,
}

impl Seen {
    fn add(&mut self, at: usize) {
        *self = if let Seen::Never = self { Seen::Once(at) } else { Seen::Often };
    }
}

/// Each run, as a number that stands for it, with the place where it begins.
fn runs(dids: &[Did], hash: &impl Fn(&Did) -> u64) -> impl Iterator<Item = (usize, u64)> {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let out = (0..RUN).fold(1_u64, |power, _| power.wrapping_mul(FACTOR));
    let (first, rest) = dids.split_at_checked(RUN).unwrap_or_default();
    let add = |sum: u64, did: &Did| sum.wrapping_mul(FACTOR).wrapping_add(hash(did));
    let start = first.iter().fold(0, add);
    let begun = if first.is_empty() { None } else { Some((0, start)) };
    let rolled = rest.iter().zip(dids).enumerate().scan(start, move |sum, (at, (next, gone))| {
        *sum = add(*sum, next).wrapping_sub(hash(gone).wrapping_mul(out));
        Some((at + 1, *sum))
    });
    begun.into_iter().chain(rolled)
}

/// The longest subsequence that is in the same order in `b`.
fn longest_rise(places: &[Place]) -> Vec<Place> {
    // The last element of the best subsequence of each length, and each one's predecessor.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(places.len());
    for (number, place) in places.iter().enumerate() {
        let length = ends.partition_point(|&end| places.get(end).is_some_and(|e| e.b < place.b));
        before.push(length.checked_sub(1).and_then(|shorter| ends.get(shorter).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = number,
            None => ends.push(number),
        }
    }
    let mut rise = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(number) = next {
        rise.extend(places.get(number));
        next = before.get(number).copied().flatten();
    }
    rise.reverse();
    rise
}

enum Middle {
    Found(Place),
    /// Finding it would take too much work. The place that a path came to, of
    /// all with as many differences.
    TooFar(Place),
}

/// How far paths with so many differences get, on each diagonal: those places
/// for which a - b is the same.
struct Reach {
    all_a: usize,
    all_b: usize,
    /// The number of differences, once there is any path.
    edits: Option<usize>,
    /// The place in `a`, by diagonal: 0, -1, 1, -2, 2, …
    furthest: Vec<usize>,
    /// The same with one difference less.
    before: Vec<usize>,
    work: u64,
}

/// No path of so many edits has come to the diagonal.
const NOWHERE: usize = usize::MAX;

impl Reach {
    fn new(all_a: usize, all_b: usize) -> Self {
        Reach { all_a, all_b, edits: None, furthest: Vec::new(), before: Vec::new(), work: 0 }
    }

    /// One difference more; at first, none.
    fn advance<'a>(&mut self, pair: impl Fn(Place) -> Option<(&'a Did, &'a Did)>) {
        let edits = self.edits.map_or(0, |edits| edits + 1);
        self.edits = Some(edits);
        std::mem::swap(&mut self.furthest, &mut self.before);
        self.furthest.clear();
        self.furthest.resize(2 * edits + 1, NOWHERE);
        for diagonal in self.diagonals() {
            self.work += 1;
            let start = match edits {
                0 => Some(0),
                _ => self.start(diagonal, &pair),
            };
            let Some(mut at) = start.and_then(|a| self.place(a, diagonal)) else { continue };
            while pair(at).is_some_and(|(a, b)| a.is_same(*b)) {
                at = Place { a: at.a + 1, b: at.b + 1 };
                self.work += 1;
            }
            if let Some(furthest) = self.furthest.get_mut(index(diagonal)) {
                *furthest = at.a;
            }
        }
    }

    /// Where a path comes to the diagonal with its last difference.
    fn start<'a>(
        &self,
        diagonal: isize,
        pair: impl Fn(Place) -> Option<(&'a Did, &'a Did)>,
    ) -> Option<usize> {
        let other_answer = self.before(diagonal).map(|here| {
            let both = self.place(here, diagonal).and_then(pair);
            here + usize::from(both.is_some_and(|(a, b)| a.deed == b.deed))
        });
        let only_a = self.before(diagonal - 1).map(|a| a + 1).filter(|&a| a <= self.all_a);
        let only_b = self.before(diagonal + 1).filter(|&a| self.place(a, diagonal).is_some());
        other_answer.max(only_a).max(only_b)
    }

    /// The place where it and what came from the other end have met.
    fn meets(&self, other: &Reach) -> Option<Place> {
        let signed = |all: usize| isize::try_from(all).ok();
        let corner = signed(self.all_a)? - signed(self.all_b)?;
        self.diagonals().find_map(|diagonal| {
            let a = self.on(diagonal)?;
            let from_end = other.on(corner.checked_sub(diagonal)?)?;
            if a + from_end >= self.all_a { self.place(a, diagonal) } else { None }
        })
    }

    /// The place that lies furthest from the beginning; of those that lie as
    /// far, the one that leaves as much of both.
    fn furthest(&self) -> Place {
        let places = self.diagonals().filter_map(|at| self.place(self.on(at)?, at));
        let far = |place: &Place| {
            let uneven = (self.all_a - place.a).abs_diff(self.all_b - place.b);
            (place.a + place.b, Reverse(uneven))
        };
        places.max_by_key(far).unwrap_or(Place { a: 0, b: 0 })
    }

    fn on(&self, diagonal: isize) -> Option<usize> {
        self.furthest.get(index(diagonal)).copied().filter(|&a| a != NOWHERE)
    }

    fn before(&self, diagonal: isize) -> Option<usize> {
        self.before.get(index(diagonal)).copied().filter(|&a| a != NOWHERE)
    }

    /// The diagonals on which there may be a path.
    fn diagonals(&self) -> Range<isize> {
        let edits = self.edits.unwrap_or_default();
        let signed = |number: usize| isize::try_from(number).unwrap_or(isize::MAX - 1);
        -signed(edits.min(self.all_b))..signed(edits.min(self.all_a)) + 1
    }

    fn place(&self, a: usize, diagonal: isize) -> Option<Place> {
        let b = a.checked_add_signed(diagonal.checked_neg()?)?;
        (b <= self.all_b).then_some(Place { a, b })
    }
}

/// Where a diagonal is kept.
fn index(diagonal: isize) -> usize {
    let twice = diagonal.unsigned_abs().saturating_mul(2);
    if diagonal < 0 { twice - 1 } else { twice }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Deeds = [(u32, u32)];

    fn stream(deeds: &Deeds) -> Vec<Did> {
        deeds.iter().map(|&(deed, answer)| Did { deed, answer, t: 0 }).collect()
    }

    /// Only in A, only in B, other answers; and whether these are the fewest.
    #[derive(Debug, PartialEq, Eq)]
    struct Found(usize, usize, usize, bool);

    fn found_with(mut effort: Effort, a: &Deeds, b: &Deeds) -> Found {
        let mut found = Found(0, 0, 0, true);
        let (mut seen_a, mut seen_b) = (Vec::new(), Vec::new());
        align(&stream(a), &stream(b), &mut effort, |a, b| {
            match (a, b) {
                (Some(a), Some(b)) => {
                    assert_eq!(a.deed, b.deed);
                    found.2 += usize::from(a.answer != b.answer);
                }
                (Some(_), None) => found.0 += 1,
                (None, Some(_)) => found.1 += 1,
                (None, None) => panic!("a pair of nothing"),
            }
            seen_a.extend(a.map(|did| (did.deed, did.answer)));
            seen_b.extend(b.map(|did| (did.deed, did.answer)));
        });
        assert!(seen_a == a && seen_b == b, "each access comes once, in order");
        found.3 = !effort.was_exceeded();
        found
    }

    fn found(a: &Deeds, b: &Deeds) -> Found {
        found_with(Effort::default(), a, b)
    }

    /// The same by trying all, a row at a time.
    fn fewest(a: &Deeds, b: &Deeds) -> usize {
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for one in a {
            let mut diagonal = row[0];
            row[0] += 1;
            for (at, other) in b.iter().enumerate() {
                let both = match (one == other, one.0 == other.0) {
                    (true, _) => diagonal,
                    (_, true) => diagonal + 1,
                    _ => usize::MAX,
                };
                diagonal = row[at + 1];
                row[at + 1] = both.min(row[at] + 1).min(diagonal + 1);
            }
        }
        row[b.len()]
    }

    /// Accesses of `kinds` MSRs with `values` values, as chance has it.
    fn chance(seed: u64, count: usize, kinds: u32, values: u32) -> Vec<(u32, u32)> {
        let mut state = seed;
        let mut below = |limit: u32| {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).unwrap()
        };
        (0..count).map(|_| (below(kinds), below(values))).collect()
    }

    fn without(deeds: &Deeds, gaps: &[Range<usize>]) -> Vec<(u32, u32)> {
        let kept = deeds.iter().enumerate().filter(|(at, _)| !gaps.iter().any(|g| g.contains(at)));
        kept.map(|(_, did)| *did).collect()
    }

    #[test]
    fn what_one_did_more_does_not_shift_the_rest() {
        let found = found(&[(1, 1), (2, 1), (3, 1)], &[(1, 1), (9, 1), (2, 1), (3, 1)]);
        assert_eq!(found, Found(0, 1, 0, true));
    }

    #[test]
    fn other_answers_are_paired() {
        assert_eq!(found(&[(1, 1), (2, 1)], &[(1, 1), (2, 5)]), Found(0, 0, 1, true));
        assert_eq!(found(&[(2, 1)], &[(2, 5)]), Found(0, 0, 1, true));
    }

    #[test]
    fn a_read_that_is_missing_does_not_shift_the_answers() {
        let counter: Vec<(u32, u32)> = (1..=5).map(|value| (7, value)).collect();
        assert_eq!(found(&counter, &counter[1..]), Found(1, 0, 0, true));
    }

    #[test]
    fn one_may_be_empty() {
        assert_eq!(found(&[], &[]), Found(0, 0, 0, true));
        assert_eq!(found(&[(1, 1)], &[]), Found(1, 0, 0, true));
        assert_eq!(found(&[], &[(1, 1)]), Found(0, 1, 0, true));
    }

    #[test]
    fn gaps_are_found_and_nothing_else() {
        let all = chance(1, 60_000, 30, 64);
        for length in [300, 500, 20_000] {
            let gap = 5_000..5_000 + length;
            assert_eq!(found(&all, &without(&all, &[gap])), Found(length, 0, 0, true));
        }
        let gaps = [5_000..5_150, 8_000..8_150];
        assert_eq!(found(&all, &without(&all, &gaps)), Found(300, 0, 0, true));
        let (a, b) = (without(&all, &gaps[..1]), without(&all, &gaps[1..]));
        assert_eq!(found(&a, &b), Found(150, 150, 0, true));
    }

    #[test]
    fn landmarks_lead_past_gaps_that_are_too_long() {
        let all = chance(2, 60_000, 30, 64);
        let little = || Effort { left: 1 << 20, least: 1 << 12, exceeded: false };
        let b = without(&all, &[1_000..20_000, 30_000..45_000, 50_000..50_001]);
        assert_eq!(found_with(little(), &all, &b), Found(34_001, 0, 0, false));
    }

    #[test]
    fn what_has_nothing_in_common_comes_to_an_end() {
        let (a, b) = (chance(3, 100_000, 2, 1 << 30), chance(4, 100_000, 2, 1 << 30));
        let little = Effort { left: 1 << 22, least: 1 << 10, exceeded: false };
        let Found(only_a, only_b, others, fewest) = found_with(little, &a, &b);
        assert!(!fewest && only_a == only_b && only_a + others == 100_000);
        assert!(others > 60_000, "{others} of what both did are paired");
    }

    proptest! {
        #[test]
        fn there_are_no_fewer(
            a in prop::collection::vec((0..4_u32, 0..3_u32), 0..60),
            b in prop::collection::vec((0..4_u32, 0..3_u32), 0..60),
        ) {
            let Found(only_a, only_b, others, least) = found(&a, &b);
            prop_assert_eq!(only_a + only_b + others, fewest(&a, &b));
            prop_assert!(least);
        }

        #[test]
        fn little_effort_is_an_alignment_too(
            a in prop::collection::vec((0..3_u32, 0..2_u32), 0..200),
            b in prop::collection::vec((0..3_u32, 0..2_u32), 0..200),
            left in 0..400_u64,
        ) {
            let Found(only_a, only_b, others, least) =
                found_with(Effort { left, least: 8, exceeded: false }, &a, &b);
            let all = fewest(&a, &b);
            prop_assert!(only_a + only_b + others >= all);
            prop_assert!(!least || only_a + only_b + others == all);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn there_are_no_fewer_of_many(
            seed in any::<u64>(),
            kinds in 1..30_u32,
            values in 1..64_u32,
            gaps in prop::collection::vec((0..1_800_usize, 50..250_usize), 2..6),
        ) {
            let all = chance(seed, 2_000, kinds, values);
            let gaps: Vec<Range<usize>> = gaps.iter().map(|&(at, length)| at..at + length).collect();
            let (ours, theirs) = gaps.split_at(gaps.len() / 2);
            let (a, b) = (without(&all, ours), without(&all, theirs));
            let Found(only_a, only_b, others, least) = found(&a, &b);
            prop_assert_eq!(only_a + only_b + others, fewest(&a, &b));
            prop_assert!(least);
        }
    }
}
