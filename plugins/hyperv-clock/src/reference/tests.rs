use wasmsr_sdk::native::Host;

use super::*;

const KHZ: u32 = 1_000_000;

/// A counter that is `tsc - ns` ahead of the host's clock, at 1 GHz.
fn at(host: &Host, tsc: u64, ns: u64) -> Moment {
    host.set_tsc(tsc);
    host.set_tsc_khz(KHZ);
    host.set_monotonic_ns(ns);
    time::now()
}

#[test]
fn each_clock_goes_on_from_the_other() {
    let host = Host::fresh();
    let mut time = ReferenceTime::default();
    at(&host, 0, 12_345);
    assert_eq!(time.now(0), 123);
    assert_eq!(time.line(), None);

    time.follow_tsc(at(&host, 1_000_000, 20_000), 0);
    assert_eq!(time.now(0), 200);
    at(&host, 2_000_000, 20_000);
    let reached = time.now(0);
    assert!(reached.abs_diff(200 + 10_000) <= 1, "by the counter now, not {reached}");

    // The host's clock is far behind, but time does not wait for it.
    time.follow_host(at(&host, 2_000_000, 20_000), 0);
    assert_eq!(time.now(0), reached);
    at(&host, 0, 120_000);
    assert_eq!(time.now(0), reached + 1_000);

    // And stays ahead, at the counter's pace.
    time.follow_tsc(at(&host, 5_000_000, 120_000), 0);
    at(&host, 1_005_000_000, 1_000_120_000);
    let passed = time.now(0) - (reached + 1_000);
    assert!(passed.abs_diff(10_000_000) <= 1, "{passed}");
}

#[test]
fn what_a_guest_adds_to_its_counter_is_no_time() {
    let host = Host::fresh();
    let mut time = ReferenceTime::default();
    time.follow_tsc(at(&host, 1_000, 1_000), 0);
    // It has moved its counter by a minute, forth and then back.
    for adjust in [60_000_000_000, 60_000_000_000_u64.wrapping_neg()] {
        let tsc = 2_000_u64.wrapping_add(adjust);
        at(&host, tsc, 2_000);
        assert!(!time.is_by_tsc(Some(adjust)));
        assert!((19..=20).contains(&time.now(adjust)));
        time.follow_tsc(time::now(), adjust);
        assert!((19..=20).contains(&time.now(adjust)));
    }
}

#[test]
fn an_adjust_that_was_not_added_is_no_time_either() {
    let host = Host::fresh();
    for adjust in [1, 1 << 48, 1 << 63, u64::MAX] {
        let mut time = ReferenceTime::default();
        time.follow_tsc(at(&host, 1_000_000, 1_000_000), 0);
        time.follow_tsc(at(&host, 2_000_000, 2_000_000), adjust);
        assert!(time.now(adjust).abs_diff(20_000) <= 20, "{} for {adjust:#x}", time.now(adjust));
    }
}

#[test]
fn a_counter_about_to_begin_anew_is_not_followed() {
    let host = Host::fresh();
    let mut time = ReferenceTime::default();
    for tsc in [u64::MAX, u64::MAX - AIM_TICKS + 1] {
        time.follow_tsc(at(&host, tsc, 1_000), 0);
        assert_eq!(time.line(), None);
        assert_eq!(time.now(0), 10);
    }
    time.follow_tsc(at(&host, u64::MAX - AIM_TICKS, 1_000), 0);
    assert!(time.line().is_some());
    assert_eq!(time.now(0), 10);
}

#[test]
fn a_counter_that_goes_back_does_not_take_the_time_along() {
    let host = Host::fresh();
    let mut time = ReferenceTime::default();
    time.follow_tsc(at(&host, 5_000_000_000, 5_000_000_000), 0);
    at(&host, 6_000_000_000, 6_000_000_000);
    let before = time.now(0);
    at(&host, 10, 7_000_000_000);
    assert_eq!(time.now(0), before);
    time.follow_tsc(time::now(), 0);
    assert!(time.now(0) >= before);
    let now = time.now(0);
    at(&host, 1_000_000_010, 8_000_000_000);
    assert!(time.now(0).abs_diff(now + 10_000_000) < 10_000, "it runs again");
}
