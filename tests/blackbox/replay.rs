//! `replay`: the same answers from all that a profile may say, from any folder;
//! and recordings that are a stranger's.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Vm, Workdir, apply, guest_exit, require_kvm, test, wasmsr,
};

/// The recording of a script, in `r.jsonl`.
fn record(vm: Vm, script: &str) -> Result<Workdir, Skip> {
    let (workdir, running) = vm.arguments(&["--record", "r.jsonl"]).start(script)?;
    let run = running.finish().exited(guest_exit(0));
    assert!(!run.stderr.contains("missing"), "{run}");
    Ok(workdir)
}

fn report(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).expect("it is JSON")
}

/// A replay in which nothing is otherwise.
fn exact(workdir: &Workdir, arguments: &[&str]) {
    let mut all = vec!["replay", "r.jsonl", "--json"];
    all.extend(arguments);
    let run = workdir.wasmsr(&all).exited(0);
    let report = report(&run);
    for none in ["different", "different_timers", "different_starts", "unmatched", "dropped"] {
        assert_eq!(report.get(none), Some(&0.into()), "{none}: {run}");
    }
    assert!(report.get("accesses").and_then(Value::as_u64) > Some(0), "{run}");
}

/// Fails at each write, and counts its reads.
const FAILS: &str = "
    (global $count (mut i64) (i64.const 0))
    (reads
        (global.set $count (i64.add (global.get $count) (i64.const 1)))
        (global.get $count))
    (writes unreachable)
";

#[apply(test)]
fn failures_and_rests_come_again() -> Outcome {
    let plugin = |name, manifest| Plugin { name, manifest, code: FAILS };
    let vm = Vm::new()
        .plugin(&plugin("faults", r#"msr = [{ range = "0x1000" }]"#))
        .plugin_with(
            &plugin("ignores", r#"msr = [{ range = "0x1001" }]"#),
            "on-failure = \"ignore\"",
        )
        .plugin_with(
            &plugin("leaves", r#"msr = [{ range = "0xc0000102", scope = "vm" }]"#),
            "on-failure = \"kernel\"",
        );
    let msr = |msr: &str| format!("r {msr} -> ?\ntimes 7 w {msr} 1 ->\ntimes 9 r {msr} ->\n");
    let workdir = record(vm, &["1000", "1001", "c0000102"].map(msr).concat())?;
    let text = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    let failures = text.matches("\"failed\":true").count();
    assert!(failures > 3 * 7, "reads fail too, where a plugin rests: {failures}");
    exact(&workdir, &[]);
    Ok(())
}

/// Counts what it is asked, and passes on what is odd.
const PASSES: Plugin = Plugin {
    name: "passes",
    manifest: r#"msr = [{ range = "0x1000-0x1003", access = "r" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (global $count (mut i64) (i64.const 0))
        (reads
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (if (i32.and (local.get $msr) (i32.const 1))
                (then (call $outcome (i32.const 2))))
            (global.get $count))
    "#,
};

const ANSWERS: Plugin = Plugin {
    name: "answers",
    manifest: r#"msr = [{ range = "0x1000-0x1001", access = "r" }]"#,
    code: "(reads (i64.const 0xb))",
};

/// The recording of both, of which the latter answers what the former passes on.
fn chain() -> Result<Workdir, Skip> {
    let vm = Vm::new().plugin(&PASSES).plugin_with(&ANSWERS, "fallback = true");
    record(vm, "r 1000 -> 1\nr 1001 -> b\nr 1001 -> b\nr 1000 -> 4\nr 1003 -> fault\nr 1000 -> 6")
}

#[apply(test)]
fn chains_come_again() -> Outcome {
    exact(&chain()?, &[]);
    Ok(())
}

const READS_A_FILE: Plugin = Plugin {
    name: "reads",
    manifest: "msr = [{ range = \"0x1000\", access = \"r\" }]\n\
               needs = { capabilities = [\"host-file:level\"] }",
    code: r#"
        (import "wasmsr" "host_file" (func $file (param i32 i32 i32 i32) (result i32)))
        (data (i32.const 8) "level")
        (reads
            (drop (call $file (i32.const 8) (i32.const 5) (i32.const 0) (i32.const 1)))
            (i64.load8_u (i32.const 0)))
    "#,
};

#[apply(test)]
fn files_of_the_host_are_found_by_their_grants() -> Outcome {
    let vm = Vm::new().plugin_with(&READS_A_FILE, "grant = [\"host-file:level=level.txt\"]");
    require_kvm()?;
    let workdir = vm.on_disk("r 1000 -> 37\nr 1000 -> 37")?;
    workdir.put("level.txt", "7");
    workdir.wasmsr(&["run", "vm.toml", "--record", "r.jsonl"]).exited(guest_exit(0));
    exact(&workdir, &[]);
    fs::create_dir(workdir.path().join("other")).expect("a folder can be made");
    workdir.put("other/reads.wasm", READS_A_FILE.wasm());
    let profile = fs::read_to_string(workdir.path().join("vm.toml")).expect("it is there");
    workdir.put("other/vm.toml", profile.replace("=level.txt", "=/sys/no/such/level"));
    exact(&workdir, &["--profile", "other/vm.toml"]);
    Ok(())
}

/// Writes a number to guest memory when it starts.
const STARTS_WITH_1: Plugin = Plugin {
    name: "starts",
    manifest: "msr = [{ range = \"0x1000\", access = \"r\", scope = \"vm\" }]\n\
               needs = { capabilities = [\"guest-memory\"] }",
    code: r#"
        (import "wasmsr" "guest_write" (func $write (param i64 i32 i32) (result i32)))
        (data (i32.const 8) "\01")
        (func (export "init") (param i32) (result i32)
            (drop (call $write (i64.const 0x300000) (i32.const 8) (i32.const 1)))
            (i32.const 0))
        (reads (i64.const 5))
    "#,
};

#[apply(test)]
fn what_plugins_change_at_their_start_is_compared() -> Outcome {
    let vm = Vm::new().plugin_with(&STARTS_WITH_1, "grant = [\"guest-memory\"]");
    let workdir = record(vm, "r 1000 -> 5")?;
    exact(&workdir, &[]);
    let other = STARTS_WITH_1.code.replace("\\01", "\\02");
    let other = Plugin { code: other.leak(), ..STARTS_WITH_1 };
    workdir.put("starts.wasm", other.wasm());
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml"]).exited(1);
    assert!(
        run.stdout.contains("1 start changed guest memory or KVM's MSRs in another way"),
        "{run}"
    );
    let words = "- - - start 01 to GPA 0x300000 02 to GPA 0x300000";
    let row = |line: &str| line.split_whitespace().skip(1).eq(words.split(' '));
    assert!(run.stdout.lines().any(row), "{run}");
    Ok(())
}

const FIVE: Plugin = Plugin {
    name: "five",
    manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
    code: "(reads (i64.const 5))",
};

const SIX: Plugin = Plugin { code: "(reads (i64.const 6))", ..FIVE };

#[apply(test)]
fn a_recording_is_replayed_from_any_folder() -> Outcome {
    let workdir = record(Vm::new().plugin(&FIVE), "r 1000 -> 5")?;
    let file = workdir.path().join("r.jsonl");
    let mut command = wasmsr(&["replay"]);
    let run = Running::start(command.arg(file).current_dir("/")).finish().exited(0);
    assert!(run.stdout.contains("r.jsonl: 0 of 1 accesses in 1 boot differ"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_shadow_need_not_be_there() -> Outcome {
    let shadow = Plugin { name: "shadow", ..SIX };
    let vm = Vm::new().plugin(&FIVE).plugin_with(&shadow, "shadow-of = \"five\"");
    let workdir = record(vm, "r 1000 -> 5")?;
    fs::remove_file(workdir.path().join("shadow.wasm")).expect("it is there");
    exact(&workdir, &[]);
    exact(&workdir, &["--profile", "vm.toml"]);
    Ok(())
}

#[apply(test)]
fn a_blessed_recording_is_of_the_plugins_that_answered() -> Outcome {
    let workdir = record(Vm::new().plugin(&FIVE), "r 1000 -> 5")?;
    let file = workdir.path().join("r.jsonl");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("it is this user's");
    symlink("r.jsonl", workdir.path().join("link")).expect("a link can be made");
    fs::create_dir(workdir.path().join("next")).expect("a folder can be made");
    let profile = fs::read_to_string(workdir.path().join("vm.toml")).expect("it is there");
    workdir.put("next/vm.toml", format!("# next\n{profile}"));
    workdir.put("next/five.wasm", SIX.wasm());
    workdir.wasmsr(&["replay", "link", "--bless", "--profile", "next/vm.toml"]).exited(0);
    let link = fs::symlink_metadata(workdir.path().join("link")).expect("it is there");
    assert!(link.is_symlink(), "what it leads to is written");
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    exact(&workdir, &[]);
    let text = fs::read_to_string(&file).expect("it is there");
    let boot: Value =
        serde_json::from_str(text.lines().next().expect("it has lines")).expect("JSON");
    let path = boot.pointer("/profile").and_then(Value::as_str).expect("it is text");
    assert!(path.ends_with("/next/vm.toml"), "{path}");
    fs::remove_file(workdir.path().join("five.wasm")).expect("it is there");
    exact(&workdir, &[]);
    Ok(())
}

/// A recording with no access, whose profile has a plugin in `path`, which is
/// said to have run.
fn naming(path: &str) -> String {
    let plugin = json!({
        "name": "five", "version": "1.0.0", "sha256": "ab".repeat(32), "path": path,
    });
    let boot = json!({
        "kind": "boot", "format": 1, "version": "0", "t": 0, "unix_ms": 1, "boot": 1, "vcpus": 1,
        "plugins": [plugin], "profile": "/vm.toml",
        "text": format!("[boot]\nguest = \"hello\"\n[[plugin]]\npath = {path:?}\n"),
    });
    format!("{boot}\n{{\"kind\":\"start\",\"t\":1}}\n")
}

#[apply(test)]
fn a_strangers_recording_runs_no_other_file() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("five.wasm", FIVE.wasm());
    let pipe = workdir.path().join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe can be made");
    let refused = |path: &Path, parts: &[&str]| {
        workdir.put("r.jsonl", naming(path.to_str().expect("it is text")));
        workdir.wasmsr(&["replay", "r.jsonl"]).refused(parts);
    };
    let other = ["five.wasm is not the file that was recorded", "--profile"];
    refused(&workdir.path().join("five.wasm"), &other);
    refused(&pipe, &["it is not a regular file"]);
    refused(Path::new("/dev/zero"), &["it is not a regular file"]);
    let unlisted =
        naming("/five.wasm").replace("path = \\\"/five.wasm\\\"", "path = \\\"/other\\\"");
    workdir.put("r.jsonl", unlisted);
    workdir.wasmsr(&["replay", "r.jsonl"]).refused(&["the recording was edited"]);
    Ok(())
}

#[apply(test)]
fn a_strangers_recording_commands_no_terminal() -> Outcome {
    let workdir = record(Vm::new().plugin(&FIVE), "r 1000 -> 5")?;
    let text = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    let text = text.replace("\"value\":\"0x5\"", "\"value\":\"0x6\"");
    let (boot, rest) = text.split_once('\n').expect("it has lines");
    let rest = rest.replace("\"plugin\":\"five\"", "\"plugin\":\"\u{9b}31m\u{202e}\\u001b[31m\"");
    let hostile = "h\u{9b}31m\u{1b}[31m.jsonl";
    workdir.put(hostile, format!("{boot}\n{rest}"));
    for json in [&[][..], &["--json"]] {
        let mut arguments = vec!["replay", hostile];
        arguments.extend(json);
        let run = workdir.wasmsr(&arguments).exited(1);
        let active = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!run.stdout.contains(active), "{:?}", run.stdout);
    }
    // Where it is a test, errors are on standard output.
    fs::create_dir(workdir.path().join("traces")).expect("a folder can be made");
    let boot = boot.replace("[boot]", "\\\"\\\\u009b\\\\u001b[31m\\\" = 1\\n[boot]");
    workdir.put("traces/r.jsonl", format!("{boot}\n{rest}"));
    let run = workdir.wasmsr(&["plugin", "test", "five.wasm"]).exited(1);
    assert!(run.stdout.contains("unknown key"), "{run}");
    let active = |c: char| c != '\n' && c.is_control();
    assert!(!run.stdout.contains(active), "{:?}", run.stdout);
    Ok(())
}

#[apply(test)]
fn what_a_plugin_passed_on_is_part_of_its_test() -> Outcome {
    let workdir = chain()?;
    let run = workdir.wasmsr(&["plugin", "test", "passes.wasm", "--add", "r.jsonl"]).exited(0);
    assert!(run.stdout.contains("traces/r.jsonl ... ok"), "{run}");
    run.said(&["a test now: 6 accesses\n"]);
    // The other's answers are none of this plugin's business, its own are.
    let answers = PASSES.code.replace("(i32.const 2)", "(i32.const 0)");
    workdir.put("passes.wasm", Plugin { code: answers.leak(), ..PASSES }.wasm());
    let run = workdir.wasmsr(&["plugin", "test", "passes.wasm"]).exited(1);
    assert!(run.stdout.contains("- vCPU 0, 0x1001: read -> 0xb\n"), "{run}");
    // That one was asked only what the first passed on.
    let arguments = ["plugin", "test", "answers.wasm", "--add", "r.jsonl", "--traces", "a"];
    let run = workdir.wasmsr(&arguments).exited(0);
    run.said(&["3 accesses, without 3 that other plugins answered"]);
    Ok(())
}

#[apply(test)]
fn a_test_that_fails_at_once_is_not_written() -> Outcome {
    let workdir = record(Vm::new().plugin(&FIVE), "r 1000 -> 5")?;
    let add = || workdir.wasmsr(&["plugin", "test", "five.wasm", "--add", "r.jsonl"]);
    let text = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    workdir.put("r.jsonl", text.replace("\"value\":\"0x5\"", "\"value\":\"0x6\""));
    add().refused(&["traces/r.jsonl is not made a test", "0x1000: read -> 0x6"]);
    assert!(!workdir.path().join("traces/r.jsonl").exists());
    // A later version may differ.
    workdir.put("five.wasm", SIX.wasm());
    workdir.put("r.jsonl", text);
    add().exited(1);
    assert!(workdir.path().join("traces/r.jsonl").exists());
    Ok(())
}
