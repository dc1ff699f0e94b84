use alloc::format;
use alloc::string::ToString;

use wasmsr_sdk::MsrIndex;
use wasmsr_sdk::native::Host;

use crate::ValueTemplate;

/// A host whose KVM has 0x10 to 0x1f.
fn host() -> Host {
    let host = Host::fresh();
    (0x10..0x20).for_each(|msr| host.set_kvm_msr(MsrIndex(msr), 0));
    host
}

#[track_caller]
fn check_refused(entries: &str, parts: &[&str]) {
    let config = format!(r#"{{"msrs": [{entries}]}}"#);
    let error = host().load::<ValueTemplate>(&config).err().unwrap().to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
}

#[track_caller]
fn check_taken(entries: &str) {
    let config = format!(r#"{{"msrs": [{entries}]}}"#);
    if let Err(error) = host().load::<ValueTemplate>(&config) {
        panic!("{config}: {error}");
    }
}

#[test]
fn each_kind_of_entry_is_taken() {
    for entry in [
        r#"{"range": "0x10a", "value": 43}"#,
        r#"{"range": "0x10a", "value": 43, "access": "r", "read": "value", "apply": "sticky"}"#,
        r#"{"range": "0x10", "value": 1, "mask": 3, "write": "ignore"}"#,
        r#"{"range": "0x10", "value": 1, "mask": 3, "write": "kernel"}"#,
        r#"{"range": "0x10", "value": 1, "mask": 3, "write": "kernel", "read-only": 2}"#,
        r#"{"range": "0x10", "value": 1, "access": "none", "apply": "initial"}"#,
        r#"{"range": "0x10", "value": 1, "access": "w", "apply": "initial", "write": "ignore"}"#,
        r#"{"range": "0x10", "value": 1, "read": "fault", "apply": "initial"}"#,
        r#"{"range": "0x10", "access": "w", "write": "kernel", "read-only": 1}"#,
        r#"{"range": "0x10", "access": "w"}"#,
        r#"{"range": "0x600-0x6ff", "read": "fault"}"#,
        r#"{"range": "0x600-0x6ff", "read": "fault", "write": "ignore"}"#,
        r#"{"range": "0x600-0x6ff", "value": 0}"#,
    ] {
        check_taken(entry);
    }
}

#[test]
fn values_and_masks_must_agree() {
    check_refused(
        r#"{"range": 16, "value": 5, "mask": 1}"#,
        &["`msrs[0].value`", "0x4", "outside `mask` 0x1"],
    );
    check_refused(r#"{"range": 16, "value": 0, "mask": 0}"#, &["`msrs[0].mask`", "no bit"]);
    check_refused(r#"{"range": 16, "mask": 1}"#, &["`msrs[0].mask`", "no `value`"]);
    check_refused(r#"{"range": 16, "apply": "sticky"}"#, &["`msrs[0].apply`", "no `value`"]);
}

#[test]
fn what_does_not_exit_has_no_rule() {
    for access in ["w", "none"] {
        check_refused(
            &format!(r#"{{"range": 16, "value": 1, "access": "{access}"}}"#),
            &["`msrs[0].access`", "no sticky value", "initial"],
        );
        check_refused(
            &format!(
                r#"{{"range": 16, "value": 1, "apply": "initial", "access": "{access}", "read": "fault"}}"#
            ),
            &["`msrs[0].read`", "reads do not exit"],
        );
    }
    for access in ["r", "none"] {
        let read = if access == "r" { r#""read": "fault","# } else { "" };
        for key in [r#""write": "fault""#, r#""write": "kernel", "read-only": 1"#] {
            check_refused(
                &format!(
                    r#"{{"range": 16, "value": 1, "apply": "initial", "access": "{access}", {read} {key}}}"#
                ),
                &["`msrs[0].write`", "writes do not exit"],
            );
        }
    }
    check_refused(
        r#"{"range": 16, "value": 1, "access": "r", "read-only": 1}"#,
        &["`msrs[0].read-only`"],
    );
    check_refused(r#"{"range": 16, "access": "none"}"#, &["`msrs[0].access`", "nothing exits"]);
}

#[test]
fn what_exits_has_one() {
    check_refused(r#"{"range": 16}"#, &["`msrs[0].access`", "no `value` to answer reads"]);
    check_refused(
        r#"{"range": 16, "read": "value", "write": "ignore"}"#,
        &["`msrs[0].access`", "no `value` to answer reads"],
    );
    check_refused(
        r#"{"range": 16, "value": 1, "apply": "initial"}"#,
        &["`msrs[0].access`", "initial value are KVM's", "\"none\""],
    );
    check_refused(
        r#"{"range": 16, "value": 1, "read": "fault"}"#,
        &["`msrs[0].read`", "never shows"],
    );
}

#[test]
fn writes_reach_kvm_only_in_part() {
    check_refused(
        r#"{"range": 16, "access": "w", "write": "kernel"}"#,
        &["`msrs[0].write`", "read-only", "did not exit"],
    );
    check_refused(
        r#"{"range": 16, "value": 0, "write": "kernel"}"#,
        &["`msrs[0].write`", "every bit"],
    );
    check_refused(
        r#"{"range": 16, "value": 0, "mask": 1, "write": "kernel", "read-only": "0xfffffffffffffffe"}"#,
        &["`msrs[0].write`", "every bit"],
    );
    check_refused(
        r#"{"range": 16, "value": 0, "read-only": 1}"#,
        &["`msrs[0].read-only`", "`write = \"kernel\"`"],
    );
}

#[test]
fn an_msr_is_listed_once() {
    check_refused(
        r#"{"range": "0x10-0x1f", "value": 1}, {"range": 5, "value": 1}, {"range": "0x1f", "value": 1}"#,
        &["`msrs[2].range`", "0x1f", "`msrs[0]`"],
    );
    // Not even in different directions.
    check_refused(
        r#"{"range": 16, "value": 1, "access": "r"}, {"range": 16, "access": "w"}"#,
        &["`msrs[1].range`", "0x10"],
    );
}

#[test]
fn a_wrong_entry_is_refused_by_key() {
    check_refused("", &["`msrs`", "no MSR"]);
    check_refused("266", &["`msrs[0]`", "a table with `range`"]);
    check_refused("{}", &["`msrs[0]`", "missing field `range`"]);
    check_refused(r#"{"range": 1, "vaule": 1}"#, &["`msrs[0].vaule`", "`value`"]);
    check_refused(r#"{"range": 1, "read": "zero"}"#, &["`msrs[0].read`", "`value`", "`fault`"]);
    check_refused(r#"{"range": 1, "write": "yes"}"#, &["`msrs[0].write`", "`ignore`", "`kernel`"]);
    let error = host().load::<ValueTemplate>("{}").err().unwrap().to_string();
    assert!(error.contains("missing field `msrs`"), "{error}");
}

#[test]
fn what_this_kvm_lacks_is_named() {
    for entry in [
        r#"{"range": "0x1f-0x20", "value": 1, "access": "none", "apply": "initial"}"#,
        r#"{"range": "0x1f-0x20", "value": 1, "mask": 1}"#,
        r#"{"range": "0x1f-0x20", "access": "w", "write": "kernel", "read-only": 1}"#,
    ] {
        check_refused(entry, &["has no 0x20", "remove it"]);
    }
}

#[test]
fn a_template_that_asks_kvm_for_too_much_is_refused() {
    for range in ["0x10000-0x10400", "0x0-0xffffffff"] {
        for keys in [r#""mask": 1"#, r#""access": "none", "apply": "initial""#] {
            let entry = format!(r#"{{"range": "{range}", "value": 1, {keys}}}"#);
            check_refused(&entry, &["1024 MSRs", "list fewer"]);
        }
    }
    check_taken(r#"{"range": "0x0-0xffffffff", "value": 1}"#);
}
