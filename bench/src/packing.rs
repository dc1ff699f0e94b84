//! Packing an exit list into KVM's filter.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use wasmsr_interface::{Directions, ExitClaim, ExitList, MsrIndex, MsrRange};
use wasmsr_kvm::filter::{KvmFilter, MAX_MSRS_PER_RANGE};

use crate::figure::{Bench, Measured};
use crate::measure::in_turn;

pub(crate) const PACKING: Bench = Bench {
    name: "pack_10000",
    about: "packing 10,000 random ranges that fit / sorting them",
    unit: "ms",
    run: pack,
};

fn pack() -> Result<Measured> {
    let exits = random_exits();
    let timed = |start: Instant| Ok(start.elapsed().as_secs_f64() * 1e3);
    in_turn(
        31,
        || {
            let start = Instant::now();
            black_box(KvmFilter::pack(black_box(&exits))?);
            timed(start)
        },
        || {
            let start = Instant::now();
            let mut claims: Vec<_> = black_box(&exits).claims.iter().collect();
            claims.sort_unstable_by_key(|claim| (claim.range.first(), claim.range.last()));
            black_box(claims);
            timed(start)
        },
    )
    .map(Measured::Pair)
}

/// Five spans as wide as a range of the filter. Reads, writes and both need one
/// range each at worst, so 15 of 16 are enough.
fn random_exits() -> ExitList {
    let mut random = fastrand::Rng::with_seed(1);
    let plugin: Arc<str> = Arc::from("plugin");
    let claims = (0..10_000).filter_map(|_| {
        let span = random.u32(1..=5) * 0x1000_0000;
        let first = random.u32(0..MAX_MSRS_PER_RANGE - 8);
        let last = first + random.u32(0..8);
        let directions = [Directions::Read, Directions::Write, Directions::ReadWrite];
        let range = MsrRange::new(MsrIndex(span + first), MsrIndex(span + last))?;
        Some(ExitClaim::new(plugin.clone(), range, *random.choice(&directions)?))
    });
    ExitList::from(claims.collect::<Vec<_>>())
}
