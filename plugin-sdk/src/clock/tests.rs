use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn moment(tsc: u64, ns: u64) -> Moment {
    Moment { tsc, ns }
}

/// A machine whose counter runs at its own frequency.
#[derive(Debug, Clone, Copy)]
struct Machine {
    hz: u64,
    tsc: u64,
    ns: u64,
}

impl Machine {
    fn after(self, ns: u64) -> Machine {
        let ticks = u128::from(ns) * u128::from(self.hz) / 1_000_000_000;
        Machine { tsc: self.tsc + u64::try_from(ticks).unwrap(), ns: self.ns + ns, ..self }
    }

    fn now(self) -> Moment {
        moment(self.tsc, self.ns)
    }
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_frequency_becomes_the_scale_that_kvm_computes() {
    // As `kvm_get_time_scale` gives for NSEC_PER_SEC and these frequencies.
    for (khz, mul, shift) in [
        (1_000_000, 0x8000_0000, 1),
        (2_000_000, 0x8000_0000, 0),
        (2_500_000, 0xcccc_cccc, -1),
        (500_000, 0x8000_0000, 2),
    ] {
        let clock = TscClock::start(moment(0, 0), khz);
        assert_eq!((clock.mul(), clock.shift()), (mul, shift), "{khz} kHz");
    }
}

#[test]
fn a_line_begins_at_its_base() {
    let clock = TscClock::start(moment(1000, 77), 2_000_000);
    assert_eq!(clock.ns_at(999), 77);
    assert_eq!(clock.ns_at(1000), 77);
    assert_eq!(clock.ns_at(1000 + 2_000_000_000), 77 + SECOND);
    assert_eq!(clock.ns_at(u64::MAX), 77 + (u64::MAX - 1000) / 2);
    let slow = TscClock::start(moment(0, 77), 1);
    assert_eq!(slow.ns_at(u64::MAX), u64::MAX);
}

#[test]
fn an_unknown_frequency_is_found_out() {
    let mut machine = Machine { hz: 2_400_000_000, tsc: 5, ns: 0 };
    let mut clock = TscClock::start(machine.now(), 0);
    for _ in 0..4 {
        let read = clock.ns_at(machine.tsc);
        assert!(read <= machine.ns, "{read} at {}", machine.ns);
        machine = machine.after(SECOND);
        clock.steer(machine.now());
    }
    let gained = clock.ns_at(machine.after(SECOND).tsc) - clock.ns_at(machine.tsc);
    assert!(gained.abs_diff(SECOND) <= SECOND / LARGEST_BEND + 1, "{gained}");
}

#[test]
fn a_line_far_behind_steps_forward() {
    let mut clock = TscClock::start(moment(0, 0), 1_000_000);
    clock.steer(moment(SECOND, 5 * SECOND));
    assert_eq!(clock.base_ns(), 5 * SECOND);
}

#[test]
fn a_line_far_ahead_stays_ahead() {
    let mut machine = Machine { hz: SECOND, tsc: 0, ns: 0 };
    let mut clock = TscClock::start(machine.now(), 1_000_000);
    let hour = 3600 * SECOND;
    machine.tsc += hour;
    for _ in 0..60 {
        machine = machine.after(SECOND);
        clock.steer(machine.now());
    }
    assert_eq!(clock.base_ns(), hour + 60 * SECOND);
    let gained = clock.ns_at(machine.after(SECOND).tsc) - clock.base_ns();
    assert!(gained.abs_diff(SECOND) <= 2, "{gained}");
}

#[test]
fn a_counter_that_goes_back_takes_no_time_with_it() {
    let mut clock = TscClock::start(moment(10 * SECOND, 10 * SECOND), 1_000_000);
    clock.steer(moment(11 * SECOND, 11 * SECOND));
    // A guest read the old line as late as here.
    let read = clock.ns_at(12 * SECOND);
    clock.steer(moment(0, 12 * SECOND));
    assert!((read..read + SECOND / 100).contains(&clock.ns_at(0)), "{}", clock.ns_at(0));
}

#[test]
fn a_host_with_another_clock_goes_on_with_the_old_time() {
    let mut clock = TscClock::start(moment(0, 100 * SECOND), 1_000_000);
    clock.steer(moment(50 * SECOND, 3 * SECOND));
    assert_eq!(clock.base_ns(), 100 * SECOND);
    clock.raise_to(101 * SECOND);
    clock.raise_to(SECOND);
    assert_eq!(clock.ns_at(50 * SECOND), 101 * SECOND);
    clock.steer(moment(51 * SECOND, 4 * SECOND));
    assert_eq!(clock.base_ns(), 102 * SECOND);
}

#[test]
fn a_line_that_is_rarely_steered_does_not_swing() {
    let mut machine = Machine { hz: 2_000_100_000, tsc: 0, ns: 0 };
    let mut clock = TscClock::start(machine.now(), 2_000_000);
    for minute in 0..10 {
        machine = machine.after(60 * SECOND);
        let error = clock.ns_at(machine.tsc).abs_diff(machine.ns);
        // 50 ppm of a minute, then half of what was left.
        assert!(error <= (3_000_000 >> minute) + 100, "{error} ns in minute {minute}");
        clock.steer(machine.now());
    }
}

#[test]
fn a_saved_line_is_the_same_line() {
    let mut clock = TscClock::start(moment(1, 2), 2_345_678);
    clock.steer(moment(3_000_000_000, SECOND));
    let saved = serde_json::to_string(&clock).unwrap();
    assert_eq!(serde_json::from_str::<TscClock>(&saved).unwrap(), clock);
    for (from, to) in [("\"shift\":-1", "\"shift\":-128"), ("\"mul\":", "\"mul\":1,\"m\":")] {
        let broken = saved.replace(from, to);
        assert_ne!(broken, saved);
        assert!(serde_json::from_str::<TscClock>(&broken).is_err(), "{broken}");
    }
}

fn any_moment() -> impl Strategy<Value = Moment> {
    let any_size = || (any::<u64>(), 0..64_u32).prop_map(|(bits, shift)| bits >> shift);
    (any_size(), any_size()).prop_map(|(tsc, ns)| moment(tsc, ns))
}

/// Nanoseconds to the next moment, and how much later than the counter the
/// host's clock is then read.
fn intervals() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((SECOND / 5..3 * SECOND, 0..50_000_u64), 200)
}

proptest! {
    /// Whatever the host says and for whatever reason, the new line begins no
    /// earlier than the old one; where both clocks go on, a guest that reads
    /// the old line and then the new one never sees a step back.
    #[test]
    fn time_never_goes_back(
        start in any_moment(),
        khz: u32,
        moments in prop::collection::vec((any_moment(), any::<bool>()), 0..16),
    ) {
        let mut clock = TscClock::start(start, khz);
        let mut last = start;
        for (step, goes_on) in moments {
            let now = match goes_on {
                true => moment(last.tsc.saturating_add(step.tsc), last.ns.saturating_add(step.ns)),
                false => step,
            };
            let old = clock;
            clock.steer(now);
            prop_assert!(clock.ns_at(now.tsc) >= old.base_ns());
            if goes_on {
                prop_assert!(clock.ns_at(now.tsc) >= old.ns_at(now.tsc));
            }
            last = now;
        }
    }

    /// KVM's word is off by up to 0.1 %, moments by up to 50 us.
    #[test]
    fn the_line_meets_the_hosts_clock_and_stays_with_it(
        khz in 100_000..6_000_000_u32,
        off_ppm in -1000..1000_i64,
        intervals in intervals(),
    ) {
        let hz = u64::from(khz) * 1000;
        let hz = hz.saturating_add_signed(i64::from(khz) * off_ppm / 1000);
        let mut machine = Machine { hz, tsc: 12345, ns: SECOND };
        let mut clock = TscClock::start(machine.now(), khz);
        let mut before = 0;
        for (place, (interval, late)) in intervals.into_iter().enumerate() {
            machine = machine.after(interval);
            let read = clock.ns_at(machine.tsc);
            prop_assert!(read >= before);
            before = read;
            let error = read.abs_diff(machine.ns);
            // 3 s at 0.1 %, then as much again for the moments' own error.
            prop_assert!(error <= 4_000_000, "{error} ns in interval {place}");
            if place > 60 {
                prop_assert!(error <= 200_000, "{error} ns in interval {place}");
            }
            clock.steer(moment(machine.tsc, machine.ns + late));
            let gained = clock.ns_at(machine.after(SECOND).tsc) - clock.ns_at(machine.tsc);
            prop_assert!(place < 3 || gained.abs_diff(SECOND) <= 700_000, "{gained} ns a second");
        }
    }
}
