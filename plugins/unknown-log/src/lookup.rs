//! Which of many rules is the first for an MSR, found in a few steps.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use wasmsr_sdk::MsrIndex;

use crate::rules::Rule;

/// Pieces of the space of MSRs without overlap, lowest first, each with a rule's place.
#[derive(Debug, Default)]
pub(crate) struct Lookup(Box<[Piece]>);

#[derive(Debug)]
struct Piece {
    first: u32,
    last: u32,
    place: u16,
}

impl Lookup {
    /// Of the rules that are chosen, the first with an MSR has it.
    pub(crate) fn of(rules: &[Rule], chosen: fn(&Rule) -> bool) -> Self {
        // Where a rule begins and, one MSR further than its last, where it ends.
        let mut edges: Vec<(u64, u16, bool)> = Vec::new();
        for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| chosen(rule)) {
            if let Ok(place) = u16::try_from(place) {
                edges.push((rule.range.first.0.into(), place, true));
                edges.push((u64::from(rule.range.last.0) + 1, place, false));
            }
        }
        edges.sort_unstable();
        let mut pieces: Vec<Piece> = Vec::new();
        let mut open: BTreeSet<u16> = BTreeSet::new();
        let mut since = 0;
        for (at, place, begins) in edges {
            if let (Some(&first), true) = (open.first(), at > since) {
                push(&mut pieces, since, at - 1, first);
            }
            match begins {
                true => open.insert(place),
                false => open.remove(&place),
            };
            since = at;
        }
        Lookup(pieces.into_boxed_slice())
    }

    /// The place of the rule for an MSR.
    pub(crate) fn find(&self, msr: MsrIndex) -> Option<usize> {
        let after = self.0.partition_point(|piece| piece.first <= msr.0);
        let piece = self.0.get(after.checked_sub(1)?)?;
        (msr.0 <= piece.last).then_some(piece.place.into())
    }
}

/// Adds a piece; one that continues the last one makes it longer.
fn push(pieces: &mut Vec<Piece>, first: u64, last: u64, place: u16) {
    let (Ok(first), Ok(last)) = (u32::try_from(first), u32::try_from(last)) else { return };
    match pieces.last_mut() {
        Some(before) if before.place == place && before.last.checked_add(1) == Some(first) => {
            before.last = last;
        }
        _ => pieces.push(Piece { first, last, place }),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use wasmsr_sdk::MsrRange;

    use super::*;

    fn rule((first, length, shared): (u32, u32, bool)) -> Rule {
        let last = MsrIndex(first.saturating_add(length));
        let range = MsrRange { first: MsrIndex(first), last };
        Rule { range, reason: None, read: None, write: None, value: None, shared }
    }

    proptest! {
        /// The model searches all rules from the first on.
        #[test]
        fn the_first_rule_with_an_msr_has_it(
            rules in prop::collection::vec(
                (prop_oneof![0..20_u32, u32::MAX - 20..=u32::MAX], 0..12_u32, any::<bool>()),
                0..12,
            ),
        ) {
            let rules: Vec<Rule> = rules.into_iter().map(rule).collect();
            let lookup = Lookup::of(&rules, |rule| !rule.shared);
            for msr in (0..40).chain(u32::MAX - 40..=u32::MAX).map(MsrIndex) {
                let model = rules.iter().position(|r| !r.shared && r.range.contains(msr));
                prop_assert_eq!(lookup.find(msr), model, "{}", msr);
            }
        }
    }
}
