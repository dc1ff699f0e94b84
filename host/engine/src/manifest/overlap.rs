//! Whether claims meet: each MSR and direction may be claimed once.

use std::collections::BTreeMap;

use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

/// Two claims that share an MSR in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overlap {
    pub(super) earlier: MsrRange,
    pub(super) later: MsrRange,
    /// Which claim the later one is, from 0.
    pub(super) place: usize,
}

impl Overlap {
    /// The first claim that meets one before it.
    pub(super) fn first(claims: impl Iterator<Item = (MsrRange, Directions)>) -> Option<Self> {
        // No two in there meet, so of those that begin before a range ends,
        // only the last can reach into it.
        let (mut reads, mut writes) = (BTreeMap::new(), BTreeMap::new());
        for (place, (later, access)) in claims.enumerate() {
            for (direction, taken) in
                [(Direction::Read, &mut reads), (Direction::Write, &mut writes)]
            {
                if !access.contains(direction) {
                    continue;
                }
                let taken: &mut BTreeMap<MsrIndex, MsrRange> = taken;
                let before = taken.range(..=later.last()).next_back();
                if let Some((_, &earlier)) = before.filter(|(_, r)| r.last() >= later.first()) {
                    return Some(Overlap { earlier, later, place });
                }
                taken.insert(later.first(), later);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims() -> impl Strategy<Value = Vec<(MsrRange, Directions)>> {
        let access = prop_oneof![
            Just(Directions::Read),
            Just(Directions::Write),
            Just(Directions::ReadWrite)
        ];
        let range = (0..40u32, 0..4u32).prop_map(|(first, more)| {
            MsrRange::new(MsrIndex(first), MsrIndex(first + more)).unwrap()
        });
        prop::collection::vec((range, access), 0..8)
    }

    fn meet(a: &(MsrRange, Directions), b: &(MsrRange, Directions)) -> bool {
        let both = |each| a.1.contains(each) && b.1.contains(each);
        (both(Direction::Read) || both(Direction::Write)) && a.0.intersection(b.0).is_some()
    }

    proptest! {
        #[test]
        fn it_is_the_first_claim_that_meets_one_before_it(claims in claims()) {
            let meets = |&place: &usize| claims[..place].iter().any(|c| meet(c, &claims[place]));
            let expected = (0..claims.len()).find(meets);
            let found = Overlap::first(claims.iter().copied());
            prop_assert_eq!(found.map(|overlap| overlap.place), expected);
            if let Some(Overlap { earlier, later, place }) = found {
                prop_assert_eq!(later, claims[place].0);
                let one = |c: &(MsrRange, Directions)| c.0 == earlier && meet(c, &claims[place]);
                prop_assert!(claims[..place].iter().any(one));
            }
        }
    }
}
