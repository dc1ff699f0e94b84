//! `run --summary`: a run that has ended, for programs.

use std::fs;

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Vm, Workdir, apply, guest_exit, require_kvm, test};

/// Remembers what was written, and refuses 0xf.
const MEMORY: Plugin = Plugin {
    name: "memory",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (global $value (mut i64) (i64.const 0))
        (reads (global.get $value))
        (writes
            (if (i64.eq (local.get $value) (i64.const 0xf)) (then (call $outcome (i32.const 1))))
            (global.set $value (local.get $value)))
    "#,
};

/// The same, but its reads are always 7.
const SEVEN: Plugin =
    Plugin { name: "seven", manifest: MEMORY.manifest, code: "(reads (i64.const 7)) (writes)" };

fn summary(workdir: &Workdir) -> Value {
    let text = fs::read(workdir.path().join("s.json")).expect("there is a summary");
    serde_json::from_slice(&text).expect("it is JSON")
}

#[apply(test)]
fn it_says_what_the_tables_say() -> Outcome {
    let arguments = ["--summary", "s.json", "--record", "r.jsonl"];
    let vm = Vm::new().arguments(&arguments).plugin(&MEMORY);
    let vm = vm.plugin_with(&SEVEN, "shadow-of = \"memory\"");
    let script = "w 1000 3 -> ok\nr 1000 -> 3\nw 1000 f -> fault\nr 77777 -> fault";
    let (workdir, running) = vm.start(script)?;
    let run = running.finish().exited(guest_exit(0));
    let summary = summary(&workdir);
    assert_eq!(summary["exit_code"], guest_exit(0));
    let end = summary["end"].as_str().expect("it is text");
    assert!(run.stderr.contains(&format!("wasmsr: {end}\n")), "{end}\n{run}");
    assert_eq!(summary["boots"], 1);
    let rows = summary["msrs"].as_array().expect("it is a list");
    let row = |msr: &str| rows.iter().find(|row| row["msr"] == msr).expect("it has a row");
    let counts = |msr: &str| ["reads", "writes", "faults"].map(|key| row(msr)[key].as_u64());
    assert_eq!(counts("0x1000"), [Some(1), Some(2), Some(1)]);
    assert_eq!((&row("0x1000")["plugin"], counts("0x77777")[0]), (&"memory".into(), Some(1)));
    let shadow = &summary["shadows"][0];
    assert_eq!((&shadow["plugin"], &shadow["of"]), (&"seven".into(), &"memory".into()));
    assert_eq!((shadow["accesses"].as_u64(), shadow["answers"].as_u64()), (Some(3), Some(2)));
    let recording = &summary["recording"];
    assert_eq!((&recording["path"], &recording["dropped"]), (&"r.jsonl".into(), &0.into()));
    let recorded = format!("recorded {} accesses", recording["lines"]);
    assert!(run.stderr.contains(&recorded), "{recorded}\n{run}");
    Ok(())
}

#[apply(test)]
fn it_is_of_the_last_boot() -> Outcome {
    let vm = Vm::new().arguments(&["--summary", "s.json", "--max-boots", "3"]).plugin(&MEMORY);
    let (workdir, running) = vm.start("r 1000 -> 0\noutb 64 fe ->")?;
    workdir.put("s.json", "an older one");
    running.finish().exited(14);
    let summary = summary(&workdir);
    assert_eq!((&summary["boots"], &summary["exit_code"]), (&3.into(), &14.into()));
    assert_eq!(summary["msrs"][0]["reads"], 1);
    assert!(summary["recording"].is_null());
    Ok(())
}

#[apply(test)]
fn a_run_that_cannot_boot_has_one() -> Outcome {
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.image = \"missing\"");
    workdir.wasmsr(&["run", "vm.toml", "--summary", "s.json"]).refused(&["missing"]);
    let summary = summary(&workdir);
    assert_eq!((&summary["boots"], &summary["exit_code"]), (&0.into(), &2.into()));
    assert!(summary["end"].as_str().is_some_and(|end| end.contains("missing")), "{summary}");
    Ok(())
}

#[apply(test)]
fn one_that_cannot_be_written_starts_nothing() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    for path in ["no/such/s.json", "."] {
        let run = workdir.wasmsr(&["run", "vm.toml", "--summary", path]);
        run.refused(&["summary", path]);
    }
    Ok(())
}
