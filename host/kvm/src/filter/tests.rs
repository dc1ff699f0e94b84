//! The packing against a plain model, and its size against brute force.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wasmsr_interface::ExitClaim;

use super::*;

fn claim(plugin: &str, first: u32, last: u32, directions: Directions) -> ExitClaim {
    ExitClaim {
        plugin: plugin.into(),
        range: MsrRange::new(MsrIndex(first), MsrIndex(last)).unwrap(),
        directions,
    }
}

fn list(claims: &[(u32, u32, Directions)]) -> ExitList {
    let claims = claims.iter().map(|&(first, last, d)| claim("p", first, last, d)).collect();
    ExitList { claims }
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
}

#[test]
fn the_highest_msr_can_be_filtered() {
    let filter = KvmFilter::pack(&list(&[(u32::MAX, u32::MAX, ReadWrite)])).unwrap();
    assert_eq!(filter.ranges()[0].last(), MsrIndex(u32::MAX));
    assert!(filter.exits(MsrIndex(u32::MAX), Direction::Read));
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
