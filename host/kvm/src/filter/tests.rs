//! The packing against a plain model and KVM's own rule, and its size against brute force.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wasmsr_interface::{Allowed, ExitClaim, MsrRange};

use super::runs::Run;
use super::*;

fn msrs(first: u32, last: u32) -> MsrRange {
    MsrRange::new(MsrIndex(first), MsrIndex(last)).unwrap()
}

fn list(claims: &[(u32, u32, Directions)]) -> ExitList {
    let claims = claims.iter().map(|&(first, last, d)| ExitClaim::new("p", msrs(first, last), d));
    ExitList::from(claims.collect::<Vec<_>>())
}

/// Everything exits but what is allowed and not claimed.
fn deny(claims: &[(u32, u32, Directions)], allowed: &[(u32, u32, Directions)]) -> ExitList {
    let allowed = allowed
        .iter()
        .map(|&(first, last, directions)| Allowed { range: msrs(first, last), directions });
    ExitList { unclaimed: Unclaimed::Exit(allowed.collect()), ..list(claims) }
}

/// What KVM does with an access, written down from `kvm_msr_allowed` of Linux 6.1, 6.12
/// and 6.18 (arch/x86/kvm/x86.c): the x2APIC is let through, the first range with index
/// and direction decides, its end is computed in 32 bits, and one without MSRs is skipped
/// when the filter is set.
fn kvm_lets_exit(filter: &KvmFilter, msr: u32, direction: Direction) -> bool {
    if (0x800..=0x8ff).contains(&msr) {
        return false;
    }
    assert!(filter.ranges.len() <= 16);
    for range in filter.ranges.iter().filter(|range| range.count != 0) {
        let start = range.base.0;
        let end = start.wrapping_add(range.count);
        if msr >= start && msr < end && range.directions.contains(direction) {
            let offset = (msr - start) as usize;
            return range.bitmap[offset / 8] & (1 << (offset % 8)) == 0;
        }
    }
    filter.denies_by_default()
}

const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

/// Holds the filter of `exits` against KVM's rule at every probe.
#[track_caller]
fn holds(exits: &ExitList, probes: impl IntoIterator<Item = u32>) -> KvmFilter {
    let filter = KvmFilter::pack(exits).unwrap();
    for msr in probes {
        for direction in BOTH {
            let is_claimed = exits.claims.iter().any(|claim| {
                claim.range.contains(MsrIndex(msr)) && claim.directions.contains(direction)
            });
            let expected = !x2apic().contains(MsrIndex(msr))
                && (is_claimed || exits.unclaimed.exits(MsrIndex(msr), direction));
            let got = kvm_lets_exit(&filter, msr, direction);
            assert_eq!(got, expected, "{direction} of {msr:#x}: {filter:?}");
            assert_eq!(filter.exits(MsrIndex(msr), direction), expected, "{msr:#x}");
        }
    }
    filter
}

#[track_caller]
fn ranges(claims: &[(u32, u32, Directions)]) -> usize {
    KvmFilter::pack(&list(claims)).unwrap().ranges().len()
}

use Directions::{Read, ReadWrite, Write};

#[test]
fn nothing_claimed_needs_no_range() {
    assert_eq!(ranges(&[]), 0);
}

#[test]
fn msrs_within_one_window_share_a_range() {
    assert_eq!(ranges(&[(0x10, 0x10, ReadWrite), (0x300f, 0x300f, ReadWrite)]), 1);
    assert_eq!(ranges(&[(0x10, 0x10, ReadWrite), (0x3010, 0x3010, ReadWrite)]), 2);
}

#[test]
fn a_single_exception_costs_one_range() {
    assert_eq!(ranges(&[(0x0, 0x5, ReadWrite), (0x6, 0x6, Read), (0x7, 0x9, ReadWrite)]), 2);
}

#[test]
fn overlapping_ranges_save_what_disjoint_ones_cannot() {
    // A two-way range from the first MSR and a read range from the sixth; where
    // both lie, only writes exit. Disjoint ranges would need three.
    let claims = [
        (0x1_0000, 0x1_0004, ReadWrite),
        (0x1_0005, 0x1_0005, Read),
        (0x1_0010, 0x1_2fff, Write),
        (0x1_3000, 0x1_3004, Read),
    ];
    assert_eq!(ranges(&claims), 2);
}

#[test]
fn sixteen_full_ranges_fit_and_one_msr_more_does_not() {
    let full = 16 * MAX_MSRS_PER_RANGE;
    assert_eq!(ranges(&[(0x1000_0000, 0x1000_0000 + full - 1, ReadWrite)]), 16);
    let error = KvmFilter::pack(&list(&[(0x1000_0000, 0x1000_0000 + full, Read)])).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("plugin `p`"), "{text}");
    assert!(text.contains("end before 0x10030000"), "{text}");
}

#[test]
fn the_whole_space_is_refused_at_once() {
    assert!(KvmFilter::pack(&list(&[(0x900, u32::MAX, ReadWrite)])).is_err());
    assert!(KvmFilter::pack(&list(&[(0x900, u32::MAX - 1, ReadWrite)])).is_err());
    assert!(KvmFilter::pack(&deny(&[], &[(0, u32::MAX - 1, ReadWrite)])).is_err());
}

#[test]
fn the_highest_msr_cannot_be_filtered() {
    for first in [u32::MAX, u32::MAX - 0xf, u32::MAX - MAX_MSRS_PER_RANGE] {
        for directions in [Read, Write, ReadWrite] {
            let error = KvmFilter::pack(&list(&[(first, u32::MAX, directions)])).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("take 0xffffffff out of the plugin's manifest"), "{error}");
        }
    }
}

#[test]
fn the_msrs_below_the_highest_exit() {
    let first = u32::MAX - MAX_MSRS_PER_RANGE;
    for claims in [
        [(u32::MAX - 1, u32::MAX - 1, ReadWrite)],
        [(first, u32::MAX - 1, Read)],
        [(first - 5, u32::MAX - 1, Write)],
    ] {
        let filter = holds(&list(&claims), (first - 6)..=u32::MAX);
        assert!(filter.ranges().iter().all(|range| range.last() < highest()), "{filter:?}");
    }
}

#[test]
fn a_refusal_says_what_does_not_fit() {
    for (first, last, part) in [(0x832, 0x832, "0x832"), (0x700, 0x900, "0x800-0x8ff")] {
        let error = KvmFilter::pack(&list(&[(first, last, Read)])).unwrap_err();
        assert_eq!(error.misfits(), Some(part.parse().unwrap()), "{error}");
    }
    let error = KvmFilter::pack(&list(&[(u32::MAX - 5, u32::MAX, Read)])).unwrap_err();
    assert_eq!(error.misfits(), Some(highest().into()));
}

#[test]
fn every_impossible_claim_is_told() {
    let exits = list(&[(0x802, 0x802, Read), (0x10, 0x10, Read), (u32::MAX, u32::MAX, Write)]);
    assert_eq!(KvmFilter::pack_all(&exits).unwrap_err().len(), 2);
}

#[test]
fn a_filter_that_denies_all_has_a_range() {
    // KVM refuses it without one.
    for exits in
        [deny(&[], &[]), deny(&[(0x10, 0x20, Read)], &[]), deny(&[], &[(0x802, 0x8ff, Read)])]
    {
        let filter = holds(&exits, (0..0x1000).chain([u32::MAX - 1, u32::MAX]));
        assert_eq!(filter.ranges().len(), 1);
        assert!(filter.denies_by_default());
    }
}

#[test]
fn what_is_allowed_and_not_claimed_stays() {
    let allowed = [(0x10, 0x10, ReadWrite), (0x170, 0x180, Read), (0x700, 0x1000, ReadWrite)];
    let claims = [(0x10, 0x10, Write), (0x175, 0x179, ReadWrite), (0xffff_ffff, 0xffff_ffff, Read)];
    let filter = holds(&deny(&claims, &allowed), (0..0x3000).chain([u32::MAX - 1, u32::MAX]));
    // Reads alone stay at 0x10 and from 0x170 on, both beyond the x2APIC.
    assert_eq!(filter.ranges().len(), 2);
}

#[test]
fn what_linux_needs_takes_few_ranges() {
    let allowed = [
        (0x10, 0x10, ReadWrite),
        (0x1b, 0x1b, ReadWrite),
        (0x174, 0x176, ReadWrite),
        (0x277, 0x277, ReadWrite),
        (0x4b56_4d00, 0x4b56_4d07, ReadWrite),
        (0xc000_0080, 0xc000_0084, ReadWrite),
        (0xc000_0100, 0xc000_0103, ReadWrite),
    ];
    assert_eq!(holds(&deny(&[], &allowed), 0..0x400).ranges().len(), 3);
}

#[test]
fn the_highest_msr_exits_where_all_do() {
    holds(&deny(&[(u32::MAX, u32::MAX, Read)], &[(0x10, 0x10, Read)]), [u32::MAX]);
    let error = KvmFilter::pack(&deny(&[], &[(0xffff_fff0, u32::MAX, Read)])).unwrap_err();
    assert!(error.to_string().contains("`allow` lists 0xfffffff0-0xffffffff"), "{error}");
}

#[test]
fn too_much_that_is_allowed_is_named() {
    let full = 16 * MAX_MSRS_PER_RANGE;
    let allowed = [(0x1000_0000, 0x1000_0000 + full, Read)];
    let error = KvmFilter::pack(&deny(&[], &allowed)).unwrap_err().to_string();
    assert!(error.contains("[msr] `allow`") && error.contains("before 0x10030000"), "{error}");
    let claimed =
        deny(&[(0x1000_0000, 0x1000_0000, Write)], &[(0x1000_0000, 0x1000_0000 + full, ReadWrite)]);
    let error = KvmFilter::pack(&claimed).unwrap_err().to_string();
    assert!(error.contains("the claims of plugin `p`"), "{error}");
}

#[test]
fn x2apic_msrs_are_refused_by_name() {
    for (first, last) in [(0x800, 0x800), (0x8ff, 0x8ff), (0x700, 0x900)] {
        let error = KvmFilter::pack(&list(&[(first, last, Read)])).unwrap_err().to_string();
        assert!(error.contains("`p`") && error.contains("x2APIC"), "{error}");
    }
    assert_eq!(ranges(&[(0x7ff, 0x7ff, Read), (0x900, 0x900, Read)]), 1);
}

#[test]
fn bitmaps_are_padded_to_eight_bytes() {
    for count in [1, 63, 64, 65, 12288] {
        let filter = KvmFilter::pack(&list(&[(0x4000_0000, 0x4000_0000 + count - 1, Read)]));
        let filter = filter.unwrap();
        let range = &filter.ranges()[0];
        assert_eq!(range.bitmap.len(), count.div_ceil(64) as usize * 8);
        assert_eq!(range.denied(), count as usize);
    }
}

fn directions() -> impl Strategy<Value = Directions> {
    prop_oneof![Just(Read), Just(Write), Just(ReadWrite)]
}

fn claims(span: u32, most: usize) -> impl Strategy<Value = Vec<(u32, u32, Directions)>> {
    let one = (0..span, 0..40u32, directions())
        .prop_map(|(first, len, d)| (0x4000_0000 + first, 0x4000_0000 + first + len, d));
    prop::collection::vec(one, 0..most)
}

/// Fewest ranges of at most `length` MSRs that express `msrs`, by trying every
/// choice at every MSR.
fn brute_force(msrs: &[(u32, Kind)], length: u32, ends: [u64; 3]) -> usize {
    let Some((&(msr, kind), rest)) = msrs.split_first() else { return 0 };
    let mut best = usize::MAX;
    for choice in 0..8u32 {
        let mut now = ends;
        for (bit, end) in now.iter_mut().enumerate() {
            if choice & (1 << bit) != 0 {
                *end = u64::from(msr) + u64::from(length);
            }
        }
        let on = now.map(|end| end > u64::from(msr));
        let served = match kind {
            Kind::Both => on[0] || (on[1] && on[2]),
            Kind::Read => on[1] || (on[0] && on[2]),
            Kind::Write => on[2] || (on[0] && on[1]),
        };
        if served {
            let more = brute_force(rest, length, now);
            best = best.min(choice.count_ones() as usize + more);
        }
    }
    best
}

proptest! {
    /// The filter lets exactly the claimed accesses exit.
    #[test]
    fn agrees_with_a_plain_model(claims in claims(60_000, 40), probes in prop::collection::vec(0..61_000u32, 200)) {
        let exits = list(&claims);
        let filter = KvmFilter::pack(&exits).unwrap();
        prop_assert!(filter.ranges().len() <= MAX_RANGES);
        let edges = claims.iter().flat_map(|&(first, last, _)| [first, last, first - 1, last + 1]);
        for msr in probes.into_iter().map(|p| 0x4000_0000 + p).chain(edges) {
            for direction in [Direction::Read, Direction::Write] {
                let expected = claims
                    .iter()
                    .any(|&(first, last, d)| (first..=last).contains(&msr) && d.contains(direction));
                prop_assert_eq!(filter.exits(MsrIndex(msr), direction), expected, "{:#x} {}", msr, direction);
            }
        }
        for range in filter.ranges() {
            prop_assert!(range.count <= MAX_MSRS_PER_RANGE);
            prop_assert_eq!(range.bitmap.len() % 8, 0);
        }
    }

    /// The same where all else exits, in KVM's own reading.
    #[test]
    fn agrees_with_kvm(
        claims in claims(40_000, 20),
        allowed in claims(40_000, 20),
        at in prop_oneof![Just(0u32), Just(0x4000_0000), Just(u32::MAX - 0x4000_0000 - 30_000)],
        denies in any::<bool>(),
        probes in prop::collection::vec(0..41_000u32, 200),
    ) {
        // Around the x2APIC, in the middle, and up to the end of the space.
        let moved = |list: Vec<(u32, u32, Directions)>| -> Vec<(u32, u32, Directions)> {
            let at = |msr: u32| msr.checked_sub(0x4000_0000).map(|offset| {
                match at { 0 => offset, at => at.saturating_add(0x4000_0000).saturating_add(offset).min(u32::MAX - 1) }
            });
            let moved = list.into_iter().filter_map(|(first, last, d)| Some((at(first)?, at(last)?, d)));
            moved.filter(|&(first, last, _)| x2apic().intersection(msrs(first, last)).is_none()).collect()
        };
        let (claims, allowed) = (moved(claims), moved(allowed));
        let exits = if denies { deny(&claims, &allowed) } else { list(&claims) };
        let edges = claims.iter().chain(&allowed).flat_map(|&(first, last, _)| {
            [first, last, first.saturating_sub(1), last.saturating_add(1)]
        });
        let probes = probes.into_iter().flat_map(|p| [p, 0x4000_0000 + p, u32::MAX - p]);
        let filter = holds(&exits, probes.chain(edges).chain([0, 0x7ff, 0x800, 0x8ff, 0x900, u32::MAX]));
        for range in filter.ranges() {
            prop_assert!(range.count <= MAX_MSRS_PER_RANGE && range.last() < highest());
            prop_assert_eq!(range.bitmap.len() % 8, 0);
        }
    }

    /// No packing is smaller; on small windows, where trying all is possible.
    #[test]
    fn is_the_smallest(msrs in prop::collection::btree_map(0..24u32, 0..3u8, 0..8), length in 1..8u32) {
        let kind = |k: u8| [Kind::Both, Kind::Read, Kind::Write][usize::from(k)];
        let msrs: BTreeMap<u32, Kind> = msrs.into_iter().map(|(m, k)| (m, kind(k))).collect();
        let runs: Vec<Run> = msrs.iter().map(|(&m, &kind)| Run { first: m, last: m, kind }).collect();
        let points: Vec<(u32, Kind)> = msrs.into_iter().collect();
        let expected = brute_force(&points, length, [0; 3]);
        let covers = cover::smallest(&runs, length, 100).unwrap();
        prop_assert_eq!(covers.len(), expected);
    }
}
