//! A processor's dump is a guest's truth: every MSR that a guest of Firecracker's on AMD Milan
//! can read (its `resources/tests/msr/msr_list_T2A_AMD_MILAN_*`), converted, then read, written
//! and read again. Nothing is lost on the way.

use std::fmt::Write;
use std::fs;

use serde_json::Value;

use crate::fixture::{Outcome, Vm, apply, guest_exit, shipped, test};

/// First and last of the MSRs in the list.
const LIST: &[(u32, u32)] = &[
    (0x0, 0x1),
    (0x10, 0x12),
    (0x17, 0x17),
    (0x1b, 0x1b),
    (0x2a, 0x2a),
    (0x2c, 0x2c),
    (0x34, 0x34),
    (0x3b, 0x3b),
    (0x48, 0x48),
    (0x8b, 0x8b),
    (0xc1, 0xc2),
    (0xcd, 0xce),
    (0xfe, 0xfe),
    (0x11e, 0x11e),
    (0x140, 0x140),
    (0x174, 0x176),
    (0x179, 0x17a),
    (0x186, 0x187),
    (0x198, 0x199),
    (0x1a0, 0x1a0),
    (0x1d9, 0x1d9),
    (0x1db, 0x1de),
    (0x1fc, 0x1fc),
    (0x200, 0x20f),
    (0x250, 0x250),
    (0x258, 0x259),
    (0x268, 0x26f),
    (0x277, 0x277),
    (0x2ff, 0x2ff),
    (0x400, 0x47f),
    (0x606, 0x606),
    (0x611, 0x611),
    (0x619, 0x619),
    (0x639, 0x639),
    (0x641, 0x641),
    (0x6e0, 0x6e0),
    (0x802, 0x803),
    (0x808, 0x808),
    (0x80a, 0x80a),
    (0x80d, 0x80d),
    (0x80f, 0x828),
    (0x830, 0x830),
    (0x832, 0x839),
    (0x83e, 0x83e),
    (0xc000_0080, 0xc000_0084),
    (0xc000_0100, 0xc000_0103),
    (0xc001_0000, 0xc001_0007),
    (0xc001_0010, 0xc001_0010),
    (0xc001_0015, 0xc001_0015),
    (0xc001_001b, 0xc001_001b),
    (0xc001_001f, 0xc001_001f),
    (0xc001_0055, 0xc001_0055),
    (0xc001_0058, 0xc001_0058),
    (0xc001_0112, 0xc001_0114),
    (0xc001_0117, 0xc001_0117),
    (0xc001_011f, 0xc001_011f),
    (0xc001_0131, 0xc001_0131),
    (0xc001_0140, 0xc001_0141),
    (0xc001_0200, 0xc001_020b),
    (0xc001_1021, 0xc001_1022),
    (0xc001_1029, 0xc001_102a),
    (0xc001_102c, 0xc001_102c),
];

/// Firecracker's lists have some lines whose address is none: a mask that was taken for one.
const NO_MSRS: &[&str] = &["0x400000000,0x0", "0x40000000000000,0x0"];

/// A value of its own for each MSR.
fn value_of(msr: u32) -> u64 {
    u64::from(msr) << 20 | u64::from(msr) ^ 0x5a5a
}

#[apply(test)]
fn a_dump_is_read_and_written_with_nothing_lost() -> Outcome {
    let msrs: Vec<u32> = LIST.iter().flat_map(|&(first, last)| first..=last).collect();
    let mut dump = "MSR_ADDR,VALUE\n".to_owned();
    for msr in &msrs {
        let _ = writeln!(dump, "{msr:#x},{:#x}", value_of(*msr));
    }
    NO_MSRS.iter().for_each(|line| dump += &format!("{line}\n"));

    let workdir = Vm::new().on_disk("r 10")?;
    workdir.put("registers.wasm", shipped("registers")?);
    workdir.put("dump.csv", dump);
    let converted = workdir.wasmsr(&["convert", "registers", "dump.csv"]).exited(0);
    for line in NO_MSRS {
        assert!(converted.stderr.contains(line), "nothing is said of {line}:\n{converted}");
    }
    // One line for each reason.
    let counts = converted.stderr.lines().filter_map(|line| line.split_once(" MSRs left out, as "));
    let left_out: usize =
        counts.filter_map(|(head, _)| head.split_whitespace().last()?.parse::<usize>().ok()).sum();
    let profile = fs::read_to_string(workdir.path().join("vm.toml")).expect("it is there");
    workdir.put("vm.toml", format!("{profile}\n{}", converted.stdout));
    let checked = workdir.wasmsr(&["check", "vm.toml", "--json"]).exited(0);
    let checked: Value = serde_json::from_str(&checked.stdout).expect("it is JSON");
    let claimed: Vec<u32> = claims(&checked);
    assert_eq!(claimed.len() + left_out, msrs.len(), "each is converted or said to be left out");
    assert!(claimed.len() > 200, "{claimed:x?}");

    let mut script = String::new();
    for msr in &claimed {
        let _ = writeln!(script, "r {msr:x}\nw {msr:x} {:x}\nr {msr:x}", !value_of(*msr));
    }
    workdir.put("script.txt", script);
    let run = workdir.wasmsr(&["run", "vm.toml", "--record", "r.jsonl"]).exited(guest_exit(0));
    let mut printed = run.stdout.lines();
    for msr in &claimed {
        let (read, written) = (value_of(*msr), !value_of(*msr));
        for expected in [
            format!("r {msr:x} -> {read:x}"),
            format!("w {msr:x} {written:x} -> ok"),
            format!("r {msr:x} -> {written:x}"),
        ] {
            assert_eq!(printed.next(), Some(expected.as_str()));
        }
    }
    let recording = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    let accesses: Vec<Value> = recording
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .filter(|line: &Value| line["kind"] == "access")
        .collect();
    assert_eq!(accesses.len(), 3 * claimed.len());
    for (three, msr) in accesses.chunks(3).zip(&claimed) {
        assert!(three.iter().all(|access| access["msr"] == format!("{msr:#x}")), "{three:?}");
        let outcomes: Vec<&Value> = three.iter().map(|access| &access["outcome"]).collect();
        assert_eq!(outcomes, ["value", "ok", "value"], "{msr:#x}");
    }
    Ok(())
}

/// Every MSR that a plugin claims, by `wasmsr check --json`.
fn claims(checked: &Value) -> Vec<u32> {
    let number = |entry: &Value, key: &str| entry[key].as_u64().and_then(|n| u32::try_from(n).ok());
    let entries = checked["msrs"].as_array().expect("it is a list");
    let ranges =
        entries.iter().filter_map(|entry| Some(number(entry, "first")?..=number(entry, "last")?));
    ranges.flatten().collect()
}
