//! Energy from configured powers.

use proptest::prelude::*;
use std::vec::Vec;
use wasmsr_sdk::{Reset as _, Timer as _};

use super::*;

#[test]
fn a_second_is_as_many_joules_as_watts() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(0), Ok(0)));
    host.set_monotonic_ns(SECOND);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(joules(10)), Ok(joules(2))));
    ran(&host, 0, SECOND);
    ran(&host, 1, SECOND / 5);
    host.set_monotonic_ns(2 * SECOND);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(joules(26)), Ok(joules(4))));
    assert_eq!(host.timer(), None, "there is no counter that could wrap unseen");
}

#[test]
fn counters_change_no_more_often_than_configured() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    host.set_monotonic_ns(9_999_999);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(0));
    host.set_monotonic_ns(10_000_000);
    let first = rapl.rdmsr(PACKAGE);
    assert_eq!(first, Ok(joules(1) / 10));
    // Both domains show the same moment.
    host.set_monotonic_ns(19_999_999);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (first, Ok(joules(1) / 50)));
}

#[test]
fn a_counter_wraps_as_hardwares_does() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    // 2^16 J at 10 W.
    host.set_monotonic_ns(6554 * SECOND);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(65540 - 65536)));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    Run(u64),
    Read,
    Ring,
    Swap,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..100_000_000_u64).prop_map(Step::Pass),
        1 => (0..1_u64 << 50).prop_map(Step::Pass),
        4 => (0..100_000_000_u64).prop_map(Step::Run),
        4 => Just(Step::Read),
        1 => Just(Step::Ring),
        1 => Just(Step::Swap),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    /// The model knows only the times since the reset, not the reads between
    /// them.
    #[test]
    fn energy_is_power_by_time(steps in prop::collection::vec(step(), 0..48)) {
        let host = host();
        let mut rapl = load(&host, MODEL);
        let (mut now, mut ran_ns): (u64, u64) = (0, 0);
        let (mut since, mut ran_since) = (0, 0);
        // The moment that the counters show: the last one that was at least 10
        // ms after the one before.
        let (mut seen, mut ran_seen) = (0, 0);
        for step in steps {
            match step {
                Step::Pass(ns) => {
                    now += ns;
                    host.set_monotonic_ns(now);
                }
                Step::Run(ns) => {
                    ran_ns += ns;
                    ran(&host, 1, ran_ns);
                }
                Step::Read => if now - seen >= 10_000_000 {
                    (seen, ran_seen) = (now, ran_ns);
                },
                Step::Ring => {
                    rapl.timer();
                    (seen, ran_seen) = (now, ran_ns);
                }
                Step::Swap => {
                    let saved = host.save(&rapl, "0.1.0").unwrap();
                    rapl = load(&host, MODEL);
                    wasmsr_sdk::Persist::restore(&mut rapl, &saved).unwrap();
                    (seen, ran_seen) = (now, ran_ns);
                }
                Step::Reset => {
                    rapl.reset();
                    (since, ran_since) = (now, ran_ns);
                    (seen, ran_seen) = (now, ran_ns);
                }
            }
            if matches!(step, Step::Read) {
                let (t, r) = (u128::from(seen - since), u128::from(ran_seen - ran_since));
                let counter = |picojoules: u128| {
                    u64::try_from(((picojoules << 16) / 1_000_000_000_000) & 0xffff_ffff)
                };
                prop_assert_eq!(rapl.rdmsr(PACKAGE).unwrap(), counter(t * 10000 + r * 5000)?);
                prop_assert_eq!(rapl.rdmsr(DRAM).unwrap(), counter(t * 2000)?);
            }
        }
    }

    /// Whatever a guest writes, a read-only register keeps its value and no
    /// register leaves its bits.
    #[test]
    fn no_sequence_of_accesses_breaks_a_register(
        accesses in prop::collection::vec((0x600..0x648_u32, any::<u64>(), any::<bool>()), 0..64),
    ) {
        let host = host();
        let mut rapl = load(&host, MODEL);
        let registers: Vec<u32> = (0x600..0x648).collect();
        for (index, value, narrow) in accesses {
            let value = if narrow { value & 0x80ff_ffff } else { value };
            let _ = rapl.wrmsr(access(index), value);
            for &index in &registers {
                if let Ok(held) = rapl.rdmsr(access(index)) {
                    let fields: u64 = match index {
                        0x610 => 0x80ff_ffff_00ff_ffff,
                        0x618 => 0x80fe_ffff,
                        0x614 => 800,
                        0x606 => 0xa_1003,
                        _ => 0,
                    };
                    prop_assert_eq!(held & !fields, 0, "{:#x} is {:#x}", index, held);
                }
            }
        }
    }
}
