//! The plugin as guests and operators see it.

extern crate std;

use alloc::format;
use alloc::string::ToString;

use wasmsr_sdk::VcpuId;
use wasmsr_sdk::native::{Host, access};

use super::*;

#[track_caller]
fn load(entries: &str) -> Registers {
    let config = format!(r#"{{"registers": [{entries}]}}"#);
    Host::fresh().load(&config).unwrap()
}

#[track_caller]
fn check_refused(entries: &str, parts: &[&str]) {
    let config = format!(r#"{{"registers": [{entries}]}}"#);
    let error = Host::fresh().load::<Registers>(&config).err().unwrap().to_string();
    assert!(parts.iter().all(|part| error.contains(part)), "{entries}: {error}");
}

const FAULT: Result<u64, Otherwise> = Err(Otherwise::Fault);
const REFUSED: Result<(), Otherwise> = Err(Otherwise::Fault);

#[test]
fn an_entry_without_rules_keeps_what_is_written() {
    let mut plugin = load(r#"{"range": "0x199", "value": 7}"#);
    assert_eq!(plugin.rdmsr(access(0x199)), Ok(7));
    assert_eq!(plugin.wrmsr(access(0x199), u64::MAX), Ok(()));
    assert_eq!(plugin.rdmsr(access(0x199)), Ok(u64::MAX));
}

#[test]
fn what_is_not_listed_is_passed_on() {
    let mut plugin = load(r#"{"range": "0x10-0x11"}, {"range": 32, "count": 2, "stride": 4}"#);
    for index in [0, 0xf, 0x12, 0x1f, 0x21, 0x23, 0x25, 0x28, u32::MAX] {
        assert_eq!(plugin.rdmsr(access(index)), Err(Otherwise::Pass), "{index:#x}");
        assert_eq!(plugin.wrmsr(access(index), 0), Err(Otherwise::Pass), "{index:#x}");
    }
    for index in [0x10, 0x11, 0x20, 0x24] {
        assert_eq!(plugin.rdmsr(access(index)), Ok(0), "{index:#x}");
    }
}

#[test]
fn bits_take_writes_by_their_mask() {
    let mut plugin = load(
        r#"{"range": 1, "value": "0xff00", "mask": "0xff", "write-1-to-clear": "0x0f00",
            "clear-only": "0xf000", "reserved": "0xff0000"}"#,
    );
    let msr = access(1);
    assert_eq!(plugin.wrmsr(msr, 0x1_0000), REFUSED, "a reserved bit");
    assert_eq!(plugin.wrmsr(msr, 0x1000), REFUSED, "a one to a bit that is only cleared");
    assert_eq!(plugin.rdmsr(msr), Ok(0xff00));
    // Ignored bits from 24 on.
    assert_eq!(plugin.wrmsr(msr, 0xffff_ffff_ff00_0155), Ok(()));
    assert_eq!(plugin.rdmsr(msr), Ok(0x0e55));
}

#[test]
fn the_bits_that_no_mask_names_have_a_rule() {
    for (masks, writable, ignored) in [
        ("", 63, false),
        (r#", "reserved": 1"#, 63, false),
        (r#", "ignored": 1"#, 63, false),
        (r#", "mask": 1"#, 0, true),
        (r#", "mask": 1, "reserved": 2"#, 0, true),
        (r#", "mask": 1, "ignored": 2"#, 0, false),
    ] {
        let mut plugin = load(&format!(r#"{{"range": 1{masks}}}"#));
        let answer = plugin.wrmsr(access(1), 1 << 63);
        let kept = plugin.rdmsr(access(1)) == Ok(1 << 63);
        assert_eq!(kept, writable == 63, "{masks}");
        assert_eq!(answer.is_ok(), kept || ignored, "{masks}");
    }
}

#[test]
fn a_lock_bit_locks_the_whole_register() {
    for (locked, answer) in [("", REFUSED), (r#", "locked": "ignore""#, Ok(()))] {
        let mut plugin = load(&format!(r#"{{"range": 58, "mask": 7, "lock": 0{locked}}}"#));
        assert_eq!(plugin.wrmsr(access(0x3a), 4), Ok(()));
        assert_eq!(plugin.wrmsr(access(0x3a), 3), Ok(()));
        assert_eq!(plugin.wrmsr(access(0x3a), 5), answer);
        assert_eq!(plugin.wrmsr(access(0x3a), 3), answer, "also the same value");
        assert_eq!(plugin.rdmsr(access(0x3a)), Ok(3));
    }
}

#[test]
fn a_register_is_written_once() {
    let mut plugin = load(r#"{"range": 1, "write": "once", "mask": 15, "ignored": 0}"#);
    assert_eq!(plugin.wrmsr(access(1), 16), REFUSED, "a refused write does not count");
    assert_eq!(plugin.wrmsr(access(1), 0), Ok(()), "a write of the same value does");
    assert_eq!(plugin.wrmsr(access(1), 1), REFUSED);
}

#[test]
fn directions_may_be_refused_fixed_or_dropped() {
    let mut plugin = load(
        r#"{"range": 1, "read": "fault"}, {"range": 2, "write": "fault", "value": 9},
           {"range": 3, "write": "ignore", "value": 9}, {"range": 4, "reads-as": 5, "reserved": 2}"#,
    );
    assert_eq!(plugin.rdmsr(access(1)), FAULT);
    assert_eq!(plugin.wrmsr(access(1), 1), Ok(()));
    assert_eq!((plugin.wrmsr(access(2), 9), plugin.rdmsr(access(2))), (REFUSED, Ok(9)));
    assert_eq!((plugin.wrmsr(access(3), 1), plugin.rdmsr(access(3))), (Ok(()), Ok(9)));
    assert_eq!((plugin.wrmsr(access(4), 1), plugin.rdmsr(access(4))), (Ok(()), Ok(5)));
    assert_eq!(plugin.wrmsr(access(4), 2), REFUSED);
}

#[test]
fn only_listed_values_are_taken() {
    let mut plugin = load(r#"{"range": 1, "only": [0, "0xffffffffffffffff"]}"#);
    assert_eq!(plugin.wrmsr(access(1), u64::MAX), Ok(()));
    assert_eq!(plugin.wrmsr(access(1), 1), REFUSED);
    assert_eq!(plugin.rdmsr(access(1)), Ok(u64::MAX));
}

#[test]
fn a_register_shows_bits_of_another() {
    let mut plugin = load(
        r#"{"range": "0x10-0x11", "values": [4608, 8704]},
           {"range": 32, "count": 2, "stride": 8, "value": 255,
            "from": {"msr": 16, "stride": 1, "mask": 65280, "shift": 8}},
           {"range": 64, "from": {"msr": 16, "mask": 65280, "shift": -40}, "reserved": 1},
           {"range": 65, "write": "fault", "from": {"msr": 16}}"#,
    );
    assert_eq!(plugin.rdmsr(access(0x20)), Ok(0x12));
    assert_eq!(plugin.rdmsr(access(0x28)), Ok(0x22));
    assert_eq!(plugin.rdmsr(access(0x40)), Ok(0x12 << 48));
    assert_eq!(plugin.rdmsr(access(0x41)), Ok(0x1200));
    // The bits are the other's: writes of them are ignored, and follow it.
    assert_eq!(plugin.wrmsr(access(0x20), 0x5555), Ok(()));
    assert_eq!(plugin.rdmsr(access(0x20)), Ok(0x5512));
    assert_eq!(plugin.wrmsr(access(0x10), 0x3456), Ok(()));
    assert_eq!(plugin.rdmsr(access(0x20)), Ok(0x5534));
}

const STATES: &str = r#"
    {"range": "0x400-0x403", "values": [1, 2, 3, 4], "warm-reset": "keep"},
    {"range": 5, "write": "once", "value": 7},
    {"range": 6, "write": "fault", "value": 8}"#;

#[test]
fn a_warm_reset_keeps_what_it_is_told() {
    let mut plugin = load(STATES);
    for index in [0x401, 5] {
        plugin.wrmsr(access(index), 9).unwrap();
    }
    plugin.reset();
    assert_eq!(plugin.rdmsr(access(0x401)), Ok(9));
    assert_eq!(plugin.rdmsr(access(5)), Ok(7));
    assert_eq!(plugin.wrmsr(access(5), 1), Ok(()), "it may be written once again");
}

#[test]
fn a_newer_instance_takes_values_and_locks_over() {
    let host = Host::fresh();
    let mut old = load(STATES);
    old.wrmsr(access(0x403), 9).unwrap();
    old.wrmsr(access(5), 7).unwrap();
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new = load(STATES);
    new.restore(&saved).unwrap();
    assert_eq!(new.rdmsr(access(0x403)), Ok(9));
    assert_eq!(new.wrmsr(access(5), 7), REFUSED);
    for changed in [
        STATES.replace("{\"range\": 5,", "{\"range\": 7,"),
        STATES.replace("\"once\"", "\"fault\""),
        STATES.replace("\"value\": 7", "\"value\": 3, \"mask\": 3"),
    ] {
        let error = load(&changed).restore(&saved).unwrap_err().to_string();
        assert!(error.contains("register 0x5"), "{error}");
    }
    // A register that was not written follows the configuration.
    let changed = STATES.replace("[1, 2, 3, 4]", "[11, 12, 13, 4]");
    let mut new = load(&changed);
    new.restore(&saved).unwrap();
    assert_eq!((new.rdmsr(access(0x400)), new.rdmsr(access(0x403))), (Ok(11), Ok(9)));
    let forged = host.forge(&[(1, 2)], "0.1.0").unwrap();
    assert!(load(STATES).restore(&forged).is_err());
}

#[test]
fn each_instance_has_the_registers_of_its_scope() {
    let config = r#"{"registers": [{"range": 1, "value": 10}, {"range": 2, "scope": "vm"}]}"#;
    let host = Host::fresh();
    let mut own: Registers = host.load_for(Some(VcpuId(1)), config).unwrap();
    let mut shared: Registers = host.load_for(None, config).unwrap();
    assert_eq!((own.rdmsr(access(1)), own.rdmsr(access(2))), (Ok(10), Err(Otherwise::Pass)));
    assert_eq!((shared.rdmsr(access(2)), shared.rdmsr(access(1))), (Ok(0), Err(Otherwise::Pass)));
}

#[test]
fn a_wrong_entry_is_refused_by_key() {
    for (entry, parts) in [
        (r#""values": [1]"#, &["`registers[0].values`", "1 value for 2 registers"][..]),
        (r#""values": [1, 2], "value": 1"#, &["`registers[0].values`", "`value`"]),
        (r#""mask": 3, "reserved": 6"#, &["`registers[0].reserved`", "bit 1"]),
        (r#""mask": 3, "ignored": 4, "reserved": 8"#, &["`registers[0].reserved`", "bit 4"]),
        (r#""lock": 64"#, &["`registers[0].lock`", "0 to 63"]),
        (r#""lock": 3, "mask": 7"#, &["`registers[0].lock`", "no write can set"]),
        (r#""locked": "ignore""#, &["`registers[0].locked`"]),
        (r#""write": "fault", "mask": 1"#, &["`registers[0].mask`", "every write is #GP"]),
        (r#""write": "ignore", "warm-reset": "keep""#, &["`registers[0].warm-reset`"]),
        (r#""access": "r", "write": "fault""#, &["`registers[0].write`", "do not exit"]),
        (r#""access": "w", "reads-as": 1"#, &["`registers[0].reads-as`", "do not exit"]),
        (r#""access": "none""#, &["`registers[0].access`", "no effect"]),
        (r#""read": "fault", "reads-as": 1"#, &["`registers[0].reads-as`"]),
        (r#""read": "fault", "from": {"msr": 1}"#, &["`registers[0].from`"]),
        (r#""only": [1, 3], "clear-only": 2"#, &["`registers[0].only`", "number 1"]),
        (r#""from": {"msr": 9}"#, &["`registers[0].from`", "0x9 is in no entry"]),
        (r#""from": {"msr": 1}"#, &["`registers[0].from`", "0x1 itself"]),
        (r#""from": {"msr": 1, "mask": 1, "shift": 1}"#, &["`registers[0].from`", "no bit of 0x1"]),
        (r#""from": {"msr": 1, "shift": 128}"#, &["`registers[0].from.shift`"]),
        (r#""name": "A", "lock": 64"#, &["`registers[0].lock`", "A: "]),
        (r#""access": "w", "value": 1"#, &["`registers[0].value`", "reads do not exit"]),
        (r#""access": "w", "values": [1, 2]"#, &["`registers[0].values`", "reads do not exit"]),
        (r#""read": "fault", "value": 1"#, &["`registers[0].value`", "reads are #GP"]),
        (r#""reads-as": 2, "value": 1"#, &["`registers[0].value`", "`reads-as`"]),
        (r#""vaule": 1"#, &["`registers[0].vaule`"]),
        (r#""write": "never""#, &["`registers[0].write`", "`once`"]),
    ] {
        check_refused(&format!(r#"{{"range": "1-2", {entry}}}"#), parts);
    }
    check_refused(r#"{"range": 1}, {"range": "0-3"}"#, &["`registers[1].range`", "0x1", "[0]"]);
    check_refused(
        r#"{"range": 1, "access": "r"}, {"range": 1, "access": "w"}"#,
        &["`registers[1].range`", "0x1"],
    );
    check_refused(
        r#"{"range": 1}, {"range": 2, "scope": "vm", "from": {"msr": 1}}"#,
        &["`registers[1].from`", "another `scope`"],
    );
    check_refused(r#"{"range": "0-1024"}"#, &["`registers`", "1025", "1024"]);
    let many = "{\"range\": 1},".repeat(513);
    check_refused(many.trim_end_matches(','), &["`registers`", "more than 512 entries"]);
}

#[test]
fn all_mistakes_come_at_once_and_no_more_than_one_can_read() {
    check_refused(
        r#"{"range": 1, "lock": 64}, {"range": 2}, {"range": 3, "write": "fault", "mask": 1, "lock": 2}"#,
        &["`registers[0].lock`", "`registers[2].mask`", "`registers[2].lock`"],
    );
    let many = r#"{"range": 1, "lock": 64},"#.repeat(20);
    check_refused(many.trim_end_matches(','), &["`registers[7].lock`", "and 12 more"]);
}

#[test]
fn a_value_that_a_write_or_another_register_looks_at_may_be_unreadable() {
    load(r#"{"range": 1, "access": "w", "value": 1, "lock": 0}"#);
    load(r#"{"range": 1, "access": "w", "value": 1, "mask": 2, "ignored": 0}"#);
    load(
        r#"{"range": "1-2", "access": "w", "value": 1},
            {"range": 3, "from": {"msr": 2, "mask": 1}}"#,
    );
}

#[test]
fn names_and_entries_are_counted_before_they_are_kept() {
    let name = "N".repeat(64);
    load(&format!(r#"{{"range": 1, "name": "{name}"}}"#));
    check_refused(
        &format!(r#"{{"range": 1, "name": "{name}N"}}"#),
        &["`registers[0].name`", "65 characters; at most 64"],
    );
    // Entry 512 is not read: it would be a mistake of its own.
    let many = r#"{"range": 1},"#.repeat(512) + r#"{"no": "entry"}"#;
    check_refused(&many, &["`registers`", "more than 512 entries", "`name`"]);
}

#[test]
fn wide_ranges_without_state_cost_nothing() {
    let mut plugin = load(r#"{"range": "0-0xffffffff", "write": "fault", "value": 3}"#);
    assert_eq!(plugin.rdmsr(access(u32::MAX)), Ok(3));
    assert_eq!(plugin.rdmsr(access(0)), Ok(3));
    plugin.reset();
    assert!(plugin.bank.keep().is_empty());
}

/// The entries of a profile.
fn entries(profile: &toml::Table) -> &[toml::Value] {
    let plugin = &profile["plugin"].as_array().unwrap()[0];
    plugin["config"]["registers"].as_array().unwrap()
}

/// `registers.toml` holds their bits against the manuals.
#[test]
fn the_examples_are_the_tables_that_are_held_against_the_manuals() {
    let table: toml::Table = toml::from_str(include_str!("../registers.toml")).unwrap();
    let held: toml::Table = toml::from_str(table["profile"].as_str().unwrap()).unwrap();
    for example in [
        include_str!("../../../examples/registers/debug-interface.toml"),
        include_str!("../../../examples/registers/feature-control.toml"),
        include_str!("../../../examples/registers/idle.toml"),
        include_str!("../../../examples/registers/mce.toml"),
        include_str!("../../../examples/registers/mtrr.toml"),
        include_str!("../../../examples/registers/perf-ctl.toml"),
        include_str!("../../../examples/registers/vendor.toml"),
    ] {
        let example: toml::Table = toml::from_str(example).unwrap();
        let listed = entries(&example);
        assert!(listed.iter().all(|entry| entries(&held).contains(entry)), "{listed:?}");
        let config = serde_json::json!({ "registers": listed }).to_string();
        for vcpu in [None, Some(VcpuId(0))] {
            assert!(Host::fresh().load_for::<Registers>(vcpu, &config).is_ok(), "{config}");
        }
    }
}
