//! Reset, and the state that a newer instance restores.

use proptest::prelude::*;
use wasmsr_sdk::{Persist as _, Reset as _, Saved};

use super::*;

/// A state as an earlier version, or another program, has written it.
fn saved(host: &Host, json: &str) -> Saved {
    let state: serde_json::Value = serde_json::from_str(json).unwrap();
    host.forge(&state, "0.0.1").unwrap()
}

#[test]
fn a_reset_clears_counters_and_limits() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    rapl.wrmsr(PACKAGE_LIMIT, 1 << 63).unwrap();
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    rapl.reset();
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(0), Ok(0)));
    assert_eq!(rapl.rdmsr(PACKAGE_LIMIT), Ok(0x0042_83e8_00dd_8320));
    host.set_monotonic_ns(2 * SECOND);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(10)));
}

#[test]
fn a_reset_drops_what_the_host_used_before() {
    let host = host();
    host.set_host_file("package", b"0");
    let mut rapl = load(&host, r#"{"source": "powercap"}"#);
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    host.set_host_file("package", b"100000000");
    rapl.reset();
    host.set_monotonic_ns(2 * SECOND);
    ran(&host, 0, 2 * SECOND);
    host.set_host_file("package", b"104000000");
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(1)));
}

#[test]
fn a_newer_instance_goes_on() {
    let host = host();
    let mut old = load(&host, MODEL);
    old.wrmsr(PACKAGE_LIMIT, 1 << 63 | 0x123).unwrap();
    host.set_monotonic_ns(SECOND);
    let state = host.save(&old, "0.1.0").unwrap();
    // The energy since the last reading is included.
    let mut new = load(&host, MODEL);
    host.set_monotonic_ns(2 * SECOND);
    new.restore(&state).unwrap();
    assert_eq!(new.rdmsr(PACKAGE), Ok(joules(10)), "a pause counts for no VM");
    assert_eq!(new.wrmsr(PACKAGE_LIMIT, 0), Ok(()));
    assert_eq!(new.rdmsr(PACKAGE_LIMIT), Ok(1 << 63 | 0x123));
    host.set_monotonic_ns(3 * SECOND);
    assert_eq!((new.rdmsr(PACKAGE), new.rdmsr(DRAM)), (Ok(joules(20)), Ok(joules(4))));
}

#[test]
fn a_state_that_the_guest_would_misread_is_refused() {
    let host = host();
    let state = host.save(&load(&host, MODEL), "0.1.0").unwrap();
    for (config, part) in [
        (MODEL.replacen('{', r#"{"units": "0xa0e03", "#, 1), "`units`"),
        (MODEL.replacen('{', r#"{"dram-energy-unit": 15, "#, 1), "units of 2^-16 J"),
        (MODEL.replacen('{', r#"{"domains": ["package"], "#, 1), "domain `dram`"),
    ] {
        let error = load(&host, &config).restore(&state).unwrap_err();
        assert!(std::format!("{error}").contains(part), "{config}: {error}");
    }
}

const KEPT: &str = r#"{"units": 659459, "domains": [{
    "domain": "package", "unit": 16,
    "energy": {"joules": 18446744073709551615, "picojoules": 999999999999},
    "limits": {"limit": 0, "policy": 0}
}]}"#;

#[test]
fn a_damaged_state_is_refused() {
    let host = host();
    load(&host, MODEL).restore(&saved(&host, KEPT)).unwrap();
    for (from, to) in [
        ("999999999999", "1000000000000"),
        ("999999999999", "18446744073709551615"),
        ("\"limit\": 0", "\"limit\": 16777216"),
        ("\"policy\": 0", "\"policy\": 32"),
        ("\"unit\": 16", "\"unit\": 255"),
        ("\"unit\": 16", "\"unit\": -1"),
        ("\"package\"", "\"psys\""),
        ("\"package\"", "\"core\""),
        ("\"units\": 659459", "\"units\": 0"),
        ("\"units\"", "\"unit\""),
        ("\"domains\": [", "\"domains\": [1, "),
    ] {
        let damaged = KEPT.replacen(from, to, 1);
        assert!(load(&host, MODEL).restore(&saved(&host, &damaged)).is_err(), "{damaged}");
    }
    assert!(load(&host, MODEL).restore(&saved(&host, "null")).is_err());
}

#[test]
fn the_largest_state_still_counts() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    rapl.restore(&saved(&host, KEPT)).unwrap();
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(0xffff_ffff));
    host.set_monotonic_ns(SECOND);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(10) - 1));
}

proptest! {
    #[test]
    fn a_round_trip_loses_nothing(ns: u64, limit in 0..0x100_0000_u64, lock: bool) {
        let host = host();
        let mut old = load(&host, MODEL);
        let limit = limit | u64::from(lock) << 63;
        old.wrmsr(PACKAGE_LIMIT, limit).unwrap();
        host.set_monotonic_ns(ns);
        let state = host.save(&old, "0.1.0").unwrap();
        let mut new = load(&host, MODEL);
        new.restore(&state).unwrap();
        old.advance();
        for register in [UNIT, PACKAGE_LIMIT, PACKAGE, PACKAGE_INFO, DRAM] {
            prop_assert_eq!(new.rdmsr(register), old.rdmsr(register));
        }
    }
}
