use alloc::format;
use alloc::string::ToString;

use wasmsr_sdk::MsrIndex;
use wasmsr_sdk::native::Host;

use crate::HostPassthrough;

/// A host with two CPUs that have 0x10 to 0x1f.
fn host() -> Host {
    let host = Host::fresh();
    host.set_host_cpus(2);
    (0x10..0x20).for_each(|msr| host.set_host_msr(MsrIndex(msr), 0));
    host
}

#[track_caller]
fn check_refused(entries: &str, parts: &[&str]) {
    let config = format!(r#"{{"msrs": [{entries}]}}"#);
    let error = host().load::<HostPassthrough>(&config).err().unwrap().to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
}

#[track_caller]
fn check_taken(entries: &str) {
    let config = format!(r#"{{"msrs": [{entries}]}}"#);
    if let Err(error) = host().load::<HostPassthrough>(&config) {
        panic!("{config}: {error}");
    }
}

#[test]
fn each_kind_of_entry_is_taken() {
    for entry in [
        r#"{"range": "0x10"}"#,
        r#"{"range": "0x10-0x1f", "access": "r", "from": "current", "when": "boot"}"#,
        r#"{"range": 16, "from": 1, "when": "boot", "mask": "0xffffffff", "write": "keep"}"#,
        r#"{"range": 16, "access": "rw", "when": "read", "write": "ignore"}"#,
        // Live MSRs are first read at an access.
        r#"{"range": "0x0-0xffffffff", "from": 4294967295}"#,
    ] {
        check_taken(entry);
    }
}

#[test]
fn keys_without_effect_are_refused() {
    for access in ["w", "none"] {
        check_refused(
            &format!(r#"{{"range": 16, "access": "{access}"}}"#),
            &["`msrs[0].access`", "reads do not exit"],
        );
    }
    check_refused(
        r#"{"range": 16, "access": "r", "write": "fault"}"#,
        &["`msrs[0].write`", "writes do not exit"],
    );
    check_refused(r#"{"range": 16, "mask": 0}"#, &["`msrs[0].mask`", "no bit"]);
}

#[test]
fn an_msr_is_listed_once() {
    check_refused(
        r#"{"range": "0x10-0x1f"}, {"range": 5}, {"range": "0x1f"}"#,
        &["`msrs[2].range`", "0x1f", "`msrs[0]`"],
    );
}

#[test]
fn a_wrong_entry_is_refused_by_key() {
    check_refused("", &["`msrs`", "no MSR"]);
    check_refused("206", &["`msrs[0]`", "a table with `range`"]);
    check_refused("{}", &["`msrs[0]`", "missing field `range`"]);
    check_refused(r#"{"range": 1, "form": 1}"#, &["`msrs[0].form`", "`from`"]);
    for from in ["-1", "4294967296", "\"cpu0\"", "true", "\"\""] {
        check_refused(
            &format!(r#"{{"range": 1, "from": {from}}}"#),
            &["`msrs[0].from`", "\"current\" or the number"],
        );
    }
    check_refused(r#"{"range": 1, "when": "now"}"#, &["`msrs[0].when`", "`read`", "`boot`"]);
    check_refused(r#"{"range": 1, "write": "pass"}"#, &["`msrs[0].write`", "`ignore`", "`keep`"]);
    let error = host().load::<HostPassthrough>("{}").err().unwrap().to_string();
    assert!(error.contains("missing field `msrs`"), "{error}");
}

#[test]
fn a_copy_that_cannot_be_had_is_named_with_the_remedy() {
    check_refused(
        r#"{"range": "0x1e-0x21", "when": "boot"}"#,
        &["0x20", "`host-msr:RANGE`", "module `msr`"],
    );
    check_refused(r#"{"range": "0x10", "when": "boot", "from": 2}"#, &["0x10", "copied"]);
}

#[test]
fn too_many_values_of_their_own_are_refused() {
    for keys in [r#""when": "boot""#, r#""write": "keep""#] {
        for range in ["0x1000-0x1200", "0x0-0xffffffff"] {
            check_refused(
                &format!(r#"{{"range": "{range}", {keys}}}"#),
                &["at most 512", "list fewer"],
            );
        }
    }
    check_refused(
        r#"{"range": "0x1000-0x10ff", "write": "keep"}, {"range": "0x1100-0x1200", "when": "boot"}"#,
        &["513 MSRs"],
    );
}
