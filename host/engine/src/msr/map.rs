//! From an MSR to the slots of the plugins that answer it.
//!
//! The map is a radix tree over the index, eight bits a level, that stops
//! early: a subtree with few segments is a run of them, looked through in
//! order. So a small map is one run and no tree, and a crowded one costs at
//! most four steps, however many ranges it holds.

use std::collections::{BTreeSet, HashMap};

use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

/// Number of a slot in a vCPU's dispatch chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u16);

/// One claim of a slot: it answers these accesses, after all earlier claims on
/// them have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions.
    pub directions: Directions,
    /// The slot that answers.
    pub slot: SlotId,
}

/// Which slots answer which MSR, in order of their claims.
#[derive(Debug, Clone, Default)]
pub struct MsrMap {
    /// Disjoint and sorted by index.
    segments: Vec<Segment>,
    nodes: Vec<[Subtree; FAN_OUT]>,
    root: Subtree,
    chains: Vec<Box<[SlotId]>>,
}

/// MSRs with the same answering slots.
#[derive(Debug, Clone, Copy)]
struct Segment {
    first: u32,
    last: u32,
    read: ChainId,
    write: ChainId,
}

type ChainId = u32;

#[derive(Debug, Clone, Copy)]
enum Subtree {
    /// `count` segments from this one on.
    Run {
        from: u32,
        count: u32,
    },
    Node(u32),
}

const FAN_OUT: usize = 256;
const BITS: u32 = 8;

/// Segments that are faster to look through than to branch over.
const RUN: usize = 8;

impl Default for Subtree {
    fn default() -> Self {
        Subtree::Run { from: 0, count: 0 }
    }
}

impl MsrMap {
    /// Builds the map; the order of the claims is the order of the chains.
    pub fn new(claims: &[Claim]) -> Self {
        let mut map = MsrMap::default();
        map.collect_segments(claims);
        map.root = map.subtree(0, map.segments.len(), u32::BITS);
        map
    }

    /// The slots that answer the access, first to last; empty where none
    /// claimed it.
    #[inline]
    pub fn lookup(&self, index: MsrIndex, direction: Direction) -> &[SlotId] {
        let Some(segment) = self.segment(index.0) else { return &[] };
        let chain = match direction {
            Direction::Read => segment.read,
            Direction::Write => segment.write,
        };
        self.chains.get(chain as usize).map_or(&[], |chain| chain)
    }

    #[inline]
    fn segment(&self, index: u32) -> Option<&Segment> {
        let mut subtree = self.root;
        let mut shift = u32::BITS;
        loop {
            match subtree {
                Subtree::Run { from, count } => {
                    let run = self.segments.get(from as usize..(from + count) as usize)?;
                    return run.iter().find(|s| s.first <= index && index <= s.last);
                }
                Subtree::Node(node) => {
                    shift -= BITS;
                    let branch = (index >> shift) as usize % FAN_OUT;
                    subtree = *self.nodes.get(node as usize)?.get(branch)?;
                }
            }
        }
    }

    /// A sweep over the claims' edges; between two edges the set of claims is
    /// the same for all MSRs.
    fn collect_segments(&mut self, claims: &[Claim]) {
        let mut edges: Vec<(u64, bool, usize)> = Vec::with_capacity(claims.len() * 2);
        for (order, claim) in claims.iter().enumerate() {
            edges.push((u64::from(claim.range.first().0), true, order));
            edges.push((u64::from(claim.range.last().0) + 1, false, order));
        }
        edges.sort_unstable();
        let mut known = HashMap::new();
        let mut active = BTreeSet::new();
        let mut edges = edges.into_iter().peekable();
        while let Some((at, begins, order)) = edges.next() {
            if begins {
                active.insert(order);
            } else {
                active.remove(&order);
            }
            let Some(&(end, ..)) = edges.peek() else { break };
            if end == at || active.is_empty() {
                continue;
            }
            let mut chain = |direction| {
                let slots: Box<[SlotId]> = active
                    .iter()
                    .filter_map(|&order| claims.get(order))
                    .filter(|claim| claim.directions.contains(direction))
                    .map(|claim| claim.slot)
                    .collect();
                *known.entry(slots).or_insert_with_key(|slots| {
                    self.chains.push(slots.clone());
                    self.chains.len() - 1
                })
            };
            let (read, write) = (chain(Direction::Read), chain(Direction::Write));
            if let (Ok(first), Ok(last), Ok(read), Ok(write)) =
                (at.try_into(), (end - 1).try_into(), read.try_into(), write.try_into())
            {
                self.segments.push(Segment { first, last, read, write });
            }
        }
    }

    /// The subtree over segments `from..to`, which lie within 2^`bits`
    /// consecutive MSRs, or reach beyond them at an end.
    fn subtree(&mut self, from: usize, to: usize, bits: u32) -> Subtree {
        let run = |from: usize, to: usize| Subtree::Run {
            from: u32::try_from(from).unwrap_or(u32::MAX),
            count: u32::try_from(to.saturating_sub(from)).unwrap_or(0),
        };
        if to.saturating_sub(from) <= RUN || bits == 0 {
            return run(from, to);
        }
        let node = self.nodes.len();
        self.nodes.push([Subtree::default(); FAN_OUT]);
        let width = 1u64 << (bits - BITS);
        // Any inner segment lies within; its high bits are the subtree's.
        let inner = self.segments.get(from + 1).map_or(0, |s| u64::from(s.first));
        let base = inner & !((1u64 << bits) - 1);
        for branch in 0..FAN_OUT {
            let low = base + branch as u64 * width;
            let within = self.segments.get(from..to).unwrap_or_default();
            let first = from + within.partition_point(|s| u64::from(s.last) < low);
            let end = from + within.partition_point(|s| u64::from(s.first) < low + width);
            let subtree = self.subtree(first, end, bits - BITS);
            if let Some(entry) = self.nodes.get_mut(node).and_then(|node| node.get_mut(branch)) {
                *entry = subtree;
            }
        }
        Subtree::Node(u32::try_from(node).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(first: u32, last: u32, directions: Directions, slot: u16) -> Claim {
        let range = MsrRange::new(MsrIndex(first), MsrIndex(last)).unwrap();
        Claim { range, directions, slot: SlotId(slot) }
    }

    /// What the map is meant to say.
    fn model(claims: &[Claim], index: MsrIndex, direction: Direction) -> Vec<SlotId> {
        claims
            .iter()
            .filter(|c| c.range.contains(index) && c.directions.contains(direction))
            .map(|c| c.slot)
            .collect()
    }

    #[test]
    fn an_empty_map_knows_no_slot() {
        assert!(MsrMap::new(&[]).lookup(MsrIndex(0x10a), Direction::Read).is_empty());
    }

    #[test]
    fn both_ends_of_the_space_are_found() {
        let map = MsrMap::new(&[
            claim(0, 0, Directions::Read, 1),
            claim(u32::MAX, u32::MAX, Directions::Write, 2),
        ]);
        assert_eq!(map.lookup(MsrIndex(0), Direction::Read), [SlotId(1)]);
        assert_eq!(map.lookup(MsrIndex(u32::MAX), Direction::Write), [SlotId(2)]);
        assert!(map.lookup(MsrIndex(u32::MAX), Direction::Read).is_empty());
    }

    #[test]
    fn ten_thousand_neighbours_are_told_apart() {
        let claims: Vec<Claim> = (0..10_000)
            .map(|i| {
                claim(0x4000_0000 + 2 * i, 0x4000_0000 + 2 * i, Directions::Read, (i % 100) as u16)
            })
            .collect();
        let map = MsrMap::new(&claims);
        for i in 0..10_000 {
            let index = MsrIndex(0x4000_0000 + 2 * i);
            assert_eq!(map.lookup(index, Direction::Read), [SlotId((i % 100) as u16)]);
            assert!(map.lookup(MsrIndex(index.0 + 1), Direction::Read).is_empty());
        }
    }

    fn claims() -> impl Strategy<Value = Vec<Claim>> {
        let directions = prop_oneof![
            Just(Directions::Read),
            Just(Directions::Write),
            Just(Directions::ReadWrite)
        ];
        // Crowded low bits, and now and then the whole space.
        let first = prop_oneof![0..300u32, 0x4000_0000..0x4000_0200u32, any::<u32>()];
        let one = (first, prop_oneof![Just(0u32), 0..20u32, any::<u32>()], directions, 0..4u16)
            .prop_map(|(first, len, directions, slot)| {
                claim(first, first.saturating_add(len), directions, slot)
            });
        prop::collection::vec(one, 0..80)
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_model(claims in claims(), probes in prop::collection::vec(any::<u32>(), 50)) {
            let map = MsrMap::new(&claims);
            let edges = claims.iter().flat_map(|c| {
                let (first, last) = (c.range.first().0, c.range.last().0);
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
            });
            for index in probes.into_iter().chain(0..310).chain(edges).map(MsrIndex) {
                for direction in [Direction::Read, Direction::Write] {
                    prop_assert_eq!(
                        map.lookup(index, direction),
                        model(&claims, index, direction),
                        "{} {}", index, direction
                    );
                }
            }
        }
    }
}
