//! Standard error: lost if it is not read, and harmless on a terminal if it is.

use std::fs;
use std::io;
use std::process::Stdio;

use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Run, Vm, Workdir, apply, guest_exit, require_kvm, test, wasmsr,
};

/// Runs `wasmsr ARGUMENTS` with a standard error whose reader has gone away.
fn with_no_reader(workdir: &Workdir, arguments: &[&str]) -> Run {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = wasmsr(arguments);
    command.current_dir(workdir.path()).stdin(Stdio::null()).stderr(writer);
    let output = command.output().expect("the command starts");
    Run {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::new(),
        code: output.status.code(),
    }
}

#[apply(test)]
fn a_run_goes_on_if_the_log_is_not_read() -> Outcome {
    require_kvm()?;
    let script = "r 77777 -> fault\nr 77778 -> fault";
    let workdir = Vm::new().on_disk(script)?;
    let run = with_no_reader(&workdir, &["run", "vm.toml", "--record", "r.jsonl"]);
    run.printed(script).exited(guest_exit(0));
    let recording = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    let last = recording.lines().last().unwrap_or_default();
    assert!(last.contains(r#""kind":"end""#), "the recording ends early:\n{recording}");
    Ok(())
}

#[apply(test)]
fn an_error_that_is_not_read() -> Outcome {
    with_no_reader(&Workdir::new(), &["check", "missing.toml"]).exited(2);
    Ok(())
}

/// Moves the cursor and begins a line that looks like another message.
const HOSTILE: &str = r"\u001b[2J\u009b1A\u202e\r\nerror: forged";

#[track_caller]
fn is_harmless(run: &Run) {
    let active = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!run.stderr.contains(active), "{run}");
    assert!(run.stderr.contains(r"\u{1b}[2J\u{9b}1A\u{202e}\u{d}"), "it is not shown:\n{run}");
    assert!(run.stderr.lines().skip(1).all(|line| !line.starts_with("error")), "{run}");
}

#[apply(test)]
fn an_error_does_nothing_to_the_terminal() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", format!("boot.guest = \"{HOSTILE}\""));
    is_harmless(&workdir.wasmsr(&["check", "vm.toml"]).exited(2));
    Ok(())
}

#[apply(test)]
fn a_log_line_does_nothing_to_the_terminal() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("t.json", format!("{{\"kvm_capabilities\": [\"{HOSTILE}\"]}}"));
    is_harmless(&workdir.wasmsr(&["convert", "firecracker", "t.json"]).exited(0));
    Ok(())
}

/// Says something hostile in its log, and fails.
const LOUD: Plugin = Plugin {
    name: "loud",
    manifest: r#"msr = [{ range = "0x1000" }]"#,
    code: r#"
        (import "wasmsr" "log" (func $log (param i32 i32 i32)))
        (data (i32.const 0) "\1b[2J\nerror: forged\"}")
        (reads
            (call $log (i32.const 2) (i32.const 0) (i32.const 20))
            (i64.const 5))
        (writes unreachable)
    "#,
};

/// Every line of standard error, which are all JSON.
#[track_caller]
fn records(run: &Run) -> Vec<Value> {
    let records: Vec<Value> = run
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("`{line}` in:\n{run}")))
        .collect();
    for record in &records {
        let time = record["time"].as_str().expect("there is a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{record}");
        assert!(record["level"].is_string() && record["message"].is_string(), "{record}");
        assert_eq!(record["vm"], "vm", "{record}");
    }
    records
}

#[apply(test)]
fn a_log_in_json_is_nothing_else() -> Outcome {
    require_kvm()?;
    let workdir = Vm::new().plugin(&LOUD).on_disk("r 1000 -> 5\nw 1000 1 -> fault")?;
    let arguments = ["run", "vm.toml", "--log", "json", "--record", "r.jsonl"];
    let run = workdir.wasmsr(&arguments).exited(guest_exit(0));
    assert!(run.stdout.contains("r 1000 -> 5"), "the console stays the guest's: {run}");
    let records = records(&run);
    let has = |level: &str, parts: &[&str]| {
        records.iter().any(|record| {
            let message = record["message"].as_str().unwrap_or_default();
            record["level"] == level && parts.iter().all(|part| message.contains(part))
        })
    };
    assert!(has("warn", &["plugin loud failed"]), "{run}");
    assert!(has("info", &["wasmsr: the guest ended with", "MSR", "0x1000"]), "the table: {run}");
    assert!(has("info", &["wasmsr: recorded 2 accesses to r.jsonl"]), "{run}");
    assert!(records.iter().any(|it| it["message"].to_string().contains("forged")), "{run}");
    let active = |c: char| c.is_control() && c != '\n';
    assert!(!run.stderr.contains(active), "{run}");
    Ok(())
}

#[apply(test)]
fn an_error_is_a_record_too() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", format!("boot.guest = \"{HOSTILE}\""));
    let run = workdir.wasmsr(&["run", "vm.toml", "--log", "json"]).exited(2);
    let records = records(&run);
    assert_eq!((records.len(), &records[0]["level"]), (1, &"error".into()), "{run}");
    assert!(
        records[0]["message"].as_str().is_some_and(|it| it.contains("no built-in guest")),
        "{run}"
    );
    with_no_reader(&workdir, &["run", "vm.toml", "--log", "json"]).exited(2);
    Ok(())
}
