//! `run --record-ring`: a recording that is in memory until something fails.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Vm, Workdir, apply, guest_exit, require_kvm,
    require_mount_namespaces, test, wasmsr,
};

/// Fails at each write, and counts its reads.
const FAILS: Plugin = Plugin {
    name: "fails",
    manifest: r#"msr = [{ range = "0x1000" }]"#,
    code: "
        (global $count (mut i64) (i64.const 0))
        (reads
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (global.get $count))
        (writes unreachable)
    ",
};

const RING: [&str; 6] = ["run", "vm.toml", "--record", "r.jsonl", "--record-ring", "64KiB"];

fn on_disk(script: &str, keys: &str) -> Result<Workdir, Skip> {
    require_kvm()?;
    Vm::new().plugin_with(&FAILS, keys).on_disk(script)
}

fn kinds(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the recording is there");
    let lines = text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON"));
    lines.collect()
}

fn kind(line: &Value) -> &str {
    line["kind"].as_str().unwrap_or_default()
}

#[apply(test)]
fn the_accesses_before_a_failure_are_in_the_file() -> Outcome {
    let workdir = on_disk("times 1000 r 1000 ->\nw 1000 1 -> fault\ntimes 10 r 1000 ->", "")?;
    let run = workdir.wasmsr(&RING).exited(guest_exit(0));
    let run = run.said(&["recorded the last ", " to r.jsonl: a plugin failed"]);
    let file = workdir.path().join("r.jsonl");
    let lines = kinds(&file);
    let heads: Vec<&str> = lines.iter().take(4).map(kind).collect();
    assert_eq!(heads, ["boot", "start", "dropped", "access"]);
    let failed: Vec<&Value> = lines.iter().filter(|line| line["failed"] == true).collect();
    assert_eq!(failed.len(), 1, "{run}");
    let kept = lines.iter().filter(|line| kind(line) == "access").count() as u64;
    assert!(kept > 50 && lines[2]["lines"].as_u64() > Some(0x1000 - 400), "{kept}, {}", lines[2]);
    let about = fs::metadata(&file).expect("it is there");
    assert_eq!(about.permissions().mode() & 0o777, 0o600, "guest memory may be in it");
    assert!(about.len() < 64 << 10, "{}", about.len());
    for verb in ["show", "stats"] {
        workdir.wasmsr(&["recording", verb, "r.jsonl"]).exited(0);
    }
    workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "r.html"]).exited(0);
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(1);
    assert!(run.stdout.contains("missing in the recording"), "{run}");
    // The next run replaces what this one has left.
    workdir.wasmsr(&RING).exited(guest_exit(0)).said(&["recorded the last "]);
    Ok(())
}

#[apply(test)]
fn what_fits_is_replayed_exactly() -> Outcome {
    let workdir = on_disk("times 9 r 1000 ->\nw 1000 1 -> fault", "")?;
    workdir.wasmsr(&RING).exited(guest_exit(0));
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    assert!(run.stdout.starts_with("r.jsonl: 0 of 10 accesses in 1 boot differ"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_run_in_which_nothing_fails_writes_nothing() -> Outcome {
    let workdir = on_disk("times 1000 r 1000 ->", "")?;
    let run = workdir.wasmsr(&RING).exited(guest_exit(0));
    run.said(&["r.jsonl is not written, since nothing failed"]);
    let file = workdir.path().join("r.jsonl");
    assert!(!file.exists());
    // Nor is an older recording touched.
    workdir.wasmsr(&["run", "vm.toml", "--record", "r.jsonl"]).exited(guest_exit(0));
    let before = fs::read(&file).expect("it is there");
    let mut arguments = RING.to_vec();
    arguments.extend(["--summary", "s.json"]);
    workdir.wasmsr(&arguments).exited(guest_exit(0));
    assert_eq!(fs::read(&file).expect("it is there"), before);
    let summary = fs::read(workdir.path().join("s.json")).expect("it is there");
    let summary: Value = serde_json::from_slice(&summary).expect("it is JSON");
    assert_eq!(
        (&summary["recording"]["lines"], &summary["recording"]["error"]),
        (&0.into(), &Value::Null)
    );
    Ok(())
}

#[apply(test)]
fn a_run_that_is_stopped_leaves_all_up_to_its_end() -> Outcome {
    let workdir = on_disk("times 9 r 1000 ->\nw 1000 1 ->", "on-failure = \"stop\"")?;
    let run = workdir.wasmsr(&RING);
    assert_eq!(run.code, Some(10), "{run}");
    run.said(&["recorded the last 10 accesses to r.jsonl: "]);
    let lines = kinds(&workdir.path().join("r.jsonl"));
    assert_eq!(lines.last().map(kind), Some("end"), "the file is written once more at the end");
    Ok(())
}

#[apply(test)]
fn a_full_disk_leaves_the_older_recording_and_the_run_goes_on() -> Outcome {
    require_mount_namespaces()?;
    let workdir = on_disk("times 1000 r 1000 ->\nw 1000 1 -> fault\nr 1000 -> 1", "")?;
    let mut command = wasmsr(&["run", "vm.toml", "--record", "full/r.jsonl"]);
    command.args(["--record-ring", "64KiB", "--summary", "s.json"]);
    fs::create_dir(workdir.path().join("full")).expect("a folder can be made");
    // An older recording on a disk with room for no more.
    let script = "mount -t tmpfs -o size=16k none full || exit 99
        \"$1\" run vm.toml --record full/r.jsonl --record-limit 1 2> old
        cp full/r.jsonl old.jsonl
        \"$@\"
        code=$?
        cp full/r.jsonl now.jsonl
        ls full > files
        exit $code";
    let mut isolated = Command::new("unshare");
    isolated
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(workdir.path());
    let run = Running::start(&mut isolated).finish().exited(guest_exit(0));
    let run = run.said(&["cannot write the last accesses to full/r.jsonl: No space left"]);
    let read = |name: &str| fs::read_to_string(workdir.path().join(name)).expect("it is there");
    assert!(!read("old.jsonl").is_empty(), "{run}");
    assert_eq!(read("now.jsonl"), read("old.jsonl"), "{run}");
    assert_eq!(read("files"), "r.jsonl\n", "nothing is left beside it");
    let summary: Value = serde_json::from_str(&read("s.json")).expect("it is JSON");
    let error = summary["recording"]["error"].as_str().unwrap_or_default();
    assert!(error.contains("No space left"), "{summary}");
    Ok(())
}

#[track_caller]
fn is_refused(workdir: &Workdir, arguments: &[&str], parts: &[&str]) -> Run {
    let mut all = vec!["run", "vm.toml"];
    all.extend(arguments);
    workdir.wasmsr(&all).exited(2).said(parts)
}

#[apply(test)]
fn what_cannot_be_replaced_is_refused_before_the_run() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    workdir.put("notes", "important");
    let ring = |file| ["--record", file, "--record-ring", "1MiB"];
    is_refused(&workdir, &ring("/dev/null"), &["cannot record to /dev/null", "no regular file"]);
    is_refused(&workdir, &ring("notes"), &["not a recording"]);
    is_refused(&workdir, &ring("none/r.jsonl"), &["check the path and its folder"]);
    is_refused(&workdir, &ring("."), &["name a file"]);
    assert_eq!(fs::read(workdir.path().join("notes")).expect("it is there"), b"important");
    is_refused(&workdir, &["--record-ring", "1MiB"], &["--record <FILE>"]);
    is_refused(&workdir, &["--record", "r", "--record-ring", "1KiB"], &["less than 64KiB"]);
    let both = ["--record", "r", "--record-ring", "1MiB", "--record-limit", "1MiB"];
    is_refused(&workdir, &both, &["cannot be used with"]);
    Ok(())
}
