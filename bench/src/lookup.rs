//! The MSR map: random hits among many ranges.

use std::hint::black_box;

use anyhow::Result;
use wasmsr_engine::msr::{Claim, MsrMap, SlotId};
use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

use crate::figure::{Bench, Measured};
use crate::measure::{in_turn, nanos_each};

pub(crate) const ONE: Bench = Bench {
    name: "lookup_1",
    about: "a look-up in a map of one range / a comparison with its ends",
    unit: "ns",
    run: one,
};

pub(crate) const HUNDRED: Bench = Bench {
    name: "lookup_100",
    about: "a look-up in a map of 100 ranges / of one",
    unit: "ns",
    run: || many(100),
};

pub(crate) const TEN_THOUSAND: Bench = Bench {
    name: "lookup_10000",
    about: "a look-up in a map of 10,000 ranges / of one",
    unit: "ns",
    run: || many(10_000),
};

const ROUNDS: usize = 101;
const PROBES: usize = 20_000;

fn one() -> Result<Measured> {
    let (map, probes) = scene(1);
    let range = MsrRange::new(MsrIndex(0), MsrIndex(LONGEST)).map(black_box);
    in_turn(
        ROUNDS,
        || Ok(nanos_each(&probes, |probe| map.lookup(probe, Direction::Read).first().copied())),
        || Ok(nanos_each(&probes, |probe| range.is_some_and(|range| range.contains(probe)))),
    )
    .map(Measured::Pair)
}

fn many(count: u32) -> Result<Measured> {
    let (large, among_many) = scene(count);
    let (small, among_one) = scene(1);
    let look = |map: &MsrMap, probes: &[MsrIndex]| {
        nanos_each(probes, |probe| map.lookup(probe, Direction::Read).first().copied())
    };
    in_turn(ROUNDS, || Ok(look(&large, &among_many)), || Ok(look(&small, &among_one)))
        .map(Measured::Pair)
}

const LONGEST: u32 = 16;

/// Ranges of up to [`LONGEST`] MSRs all over the index space, and MSRs in them,
/// in random order.
fn scene(count: u32) -> (MsrMap, Vec<MsrIndex>) {
    let mut random = fastrand::Rng::with_seed(u64::from(count));
    let stride = u32::MAX / count;
    let mut claims = Vec::new();
    for place in 0..count {
        let first = place * stride + random.u32(0..=stride - LONGEST);
        let last = first + random.u32(0..LONGEST);
        let slot = SlotId(random.u16(0..100));
        claims.extend(MsrRange::new(MsrIndex(first), MsrIndex(last)).map(|range| Claim {
            range,
            directions: Directions::ReadWrite,
            slot,
        }));
    }
    let probes = (0..PROBES).filter_map(|_| {
        let range = random.choice(&claims)?.range;
        Some(MsrIndex(random.u32(range.first().0..=range.last().0)))
    });
    let probes = probes.collect();
    (MsrMap::new(&claims), probes)
}
