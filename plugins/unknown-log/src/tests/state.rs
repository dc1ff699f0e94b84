//! Saved states: which are restored, and which are refused.

use std::string::ToString;

use super::*;

/// A state with this text.
fn forged(host: &Host, state: &str) -> Saved {
    let state: serde_json::Value = serde_json::from_str(state).unwrap();
    host.forge(&state, "0.1.0").unwrap()
}

fn restore(host: &Host, config: &str, state: &str) -> Result<UnknownLog, Error> {
    let mut plugin: UnknownLog = host.load_for(None, config).unwrap();
    plugin.restore(&forged(host, state)).map(|()| plugin)
}

const STORE: &str = r#"{"rules": [{"range": "0x10-0x1f", "read": "stored", "write": "store"}]}"#;
const LEARN: &str = r#"{"learn": true}"#;

#[track_caller]
fn check_refused(config: &str, state: &str, part: &str) {
    let error = restore(&Host::fresh(), config, state).err().unwrap().to_string();
    assert!(error.contains(part), "{state}: {error}");
}

#[test]
fn values_and_lessons_are_taken_over() {
    let host = Host::fresh();
    host.set_vcpus(2);
    let mut old: UnknownLog = host.load_for(None, LEARN).unwrap();
    old.wrmsr(on(0x10, 1, Reason::Invalid), u64::MAX).unwrap();
    old.rdmsr(on(0x10, 1, Reason::Unknown)).unwrap();
    for msr in 0..2000 {
        old.wrmsr(unknown(msr), 1).unwrap();
    }
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new: UnknownLog = host.load_for(None, LEARN).unwrap();
    new.restore(&saved).unwrap();
    assert_eq!((&new.stored, &new.lessons), (&old.stored, &old.lessons));
    assert_eq!(new.report(), old.report());
    assert_eq!(new.rdmsr(on(0x10, 1, Reason::Invalid)), Ok(u64::MAX));
}

#[test]
fn the_longest_state_is_one_that_the_host_keeps() {
    const HOST_KEEPS: usize = 64 << 10;
    let host = Host::fresh();
    host.set_vcpus(255);
    let mut plugin: UnknownLog = host.load_for(None, LEARN).unwrap();
    for msr in (0..2000).map(|step| u32::MAX - step) {
        let access = on(msr, 254, Reason::Invalid);
        plugin.wrmsr(access, u64::MAX).unwrap();
    }
    let length = serde_json::to_string(&Kept::of(&plugin)).unwrap().len();
    // Counts of up to 32 bits have 9 digits more, twice per MSR.
    let length = length + lessons::MOST * 18;
    assert!(length < HOST_KEEPS, "{length}");
}

#[test]
fn a_state_that_no_guest_can_have_made_is_refused() {
    check_refused(STORE, "5", "does not fit");
    check_refused(STORE, r#"{"stored": [], "learned": null, "more": 1}"#, "more");
    check_refused(STORE, r#"{"stored": [[16, 0, -1]], "learned": null}"#, "-1");
    check_refused(STORE, r#"{"stored": [[16, 0, 1], [16, 0, 2]], "learned": null}"#, "0x10");
    check_refused(STORE, r#"{"stored": [[17, 0, 1], [16, 0, 2]], "learned": null}"#, "order");
    check_refused(STORE, r#"{"stored": [[16, 1, 1]], "learned": null}"#, "vCPU 1");

    let lessons = |lessons: &str| format!(r#"{{"stored": [], "learned": {lessons}}}"#);
    for seen in [
        // Neither read nor written.
        "[[1, 0, 0, 0, 0, false, false]]",
        // Values without a write.
        "[[1, 1, 0, 5, 5, false, false]]",
        // One write of two values.
        "[[1, 1, 1, 5, 6, false, false]]",
        // Read back without a write, or without a read.
        "[[1, 1, 0, 0, 0, true, false]]",
        "[[1, 0, 1, 5, 5, true, false]]",
        // Twice.
        "[[1, 1, 0, 0, 0, false, false], [1, 1, 0, 0, 0, false, false]]",
    ] {
        let state = lessons(&format!(r#"{{"seen": {seen}, "beyond": 0, "dropped": 0}}"#));
        check_refused(LEARN, &state, "lessons");
    }
    // More MSRs than could be remembered, although there is room.
    check_refused(LEARN, &lessons(r#"{"seen": [], "beyond": 1, "dropped": 0}"#), "lessons");
    let many: Vec<String> =
        (0..=lessons::MOST).map(|msr| format!("[{msr}, 1, 0, 0, 0, false, false]")).collect();
    let many = format!(r#"{{"seen": [{}], "beyond": 0, "dropped": 0}}"#, many.join(","));
    check_refused(LEARN, &lessons(&many), "lessons");
    let many: Vec<String> = (0..=stored::MOST).map(|msr| format!("[{msr}, 0, 1]")).collect();
    let many = format!(r#"{{"stored": [{}], "learned": null}}"#, many.join(","));
    check_refused(LEARN, &many, "too many");
}

#[test]
fn a_refused_state_changes_nothing() {
    let host = Host::fresh();
    let mut plugin: UnknownLog = host.load_for(None, LEARN).unwrap();
    let state = r#"{"stored": [[16, 0, 1]], "learned": {"seen": [], "beyond": 1, "dropped": 0}}"#;
    plugin.restore(&forged(&host, state)).unwrap_err();
    assert_eq!(plugin.rdmsr(unknown(0x10)), Ok(0));
}

#[test]
fn what_no_rule_stores_any_more_is_forgotten_and_said() {
    let host = Host::fresh();
    let state = r#"{"stored": [[16, 0, 1], [32, 0, 2], [17, null, 3]], "learned": null}"#;
    let state = state.replace("[32, 0, 2], [17, null, 3]", "[17, null, 3], [32, 0, 2]");
    let mut plugin = restore(&host, STORE, &state).unwrap();
    assert_eq!(plugin.rdmsr(unknown(0x10)), Ok(1));
    assert_eq!(plugin.rdmsr(unknown(0x11)), Ok(0));
    assert_eq!(lines(&host)[0], "2 stored values are dropped: no rule stores them any more");
}

#[test]
fn what_was_learned_goes_over_into_rules() {
    let host = Host::fresh();
    let mut old: UnknownLog = host.load_for(None, LEARN).unwrap();
    old.wrmsr(unknown(0x10), 7).unwrap();
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new: UnknownLog = host.load_for(None, STORE).unwrap();
    new.restore(&saved).unwrap();
    assert_eq!(new.rdmsr(unknown(0x10)), Ok(7));
    assert_eq!(new.report(), "");
}
