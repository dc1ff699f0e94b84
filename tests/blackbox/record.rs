//! `run --record` and `replay`: what a run answered, in a file, and again. More
//! of the file is in `record_file.rs`, more of replays in `replay.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Run, Shell, Vm, Workdir, apply, guest_exit, test};

/// Counts its reads from what was written last.
const COUNTER: Plugin = Plugin {
    name: "counter",
    manifest: r#"msr = [{ range = "0x1000-0x1001", access = "rw", scope = "vm" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (import "wasmsr" "monotonic_ns" (func $ns (result i64)))
        (global $count (mut i64) (i64.const 0))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1001)) (then (return (call $ns))))
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (global.get $count))
        (writes
            (if (i64.eq (local.get $value) (i64.const 0xbad)) (then unreachable))
            (if (i64.eq (local.get $value) (i64.const 0xf)) (then (call $outcome (i32.const 1))))
            (global.set $count (local.get $value)))
    "#,
};

/// The same, but its reads count by two.
const BY_TWO: Plugin = Plugin {
    name: "counter",
    manifest: COUNTER.manifest,
    code: r#"
        (import "wasmsr" "monotonic_ns" (func $ns (result i64)))
        (global $count (mut i64) (i64.const 0))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1001)) (then (return (call $ns))))
            (global.set $count (i64.add (global.get $count) (i64.const 2)))
            (global.get $count))
        (writes
            (if (i64.eq (local.get $value) (i64.const 0xbad)) (then unreachable))
            (global.set $count (local.get $value)))
    "#,
};

const SCRIPT: &str = "
    r 1000     -> 1
    r 1001     -> ?
    w 1000 10  -> ok
    r 1000     -> 11
    w 1000 f   -> fault
    w 1000 bad -> fault
    cpu 1      -> ok
    r 1000     -> 1
    r 1001     -> ?
    r 77777    -> fault
";

/// A folder with `r.jsonl`, the recording of the script.
fn recorded() -> Result<Workdir, crate::fixture::Skip> {
    let vm = Vm::new().vcpus(2).arguments(&["--record", "r.jsonl"]).plugin(&COUNTER);
    let (workdir, running) = vm.start(SCRIPT)?;
    let run = running.finish().exited(guest_exit(0)).said(&["recorded ", " accesses to r.jsonl"]);
    assert!(!run.stderr.contains("missing"), "{run}");
    Ok(workdir)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the recording is there");
    let parse = |line| serde_json::from_str(line).expect("each line is JSON");
    text.lines().map(parse).collect()
}

/// What a JSON pointer leads to.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

#[apply(test)]
fn every_access_is_a_line() -> Outcome {
    let workdir = recorded()?;
    let file = workdir.path().join("r.jsonl");
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "guest memory may be in it");
    let lines = lines(&file);
    let boot = lines.first().expect("there are lines");
    assert_eq!((at(boot, "/kind"), at(boot, "/vcpus")), (&"boot".into(), &2.into()));
    assert_eq!(at(boot, "/plugins/0/name"), "counter");
    let of = |msr: &str| {
        let own = lines.iter().filter(move |line| at(line, "/msr") == msr);
        let words = |line: &Value| {
            ["/vcpu", "/op", "/value", "/outcome", "/plugin", "/failed"]
                .map(|key| at(line, key).to_string().replace('"', ""))
                .join(" ")
        };
        own.map(words).collect::<Vec<_>>()
    };
    assert_eq!(
        of("0x1000"),
        [
            "0 read 0x1 value counter null",
            "0 write 0x10 ok counter null",
            "0 read 0x11 value counter null",
            "0 write 0xf fault counter null",
            "0 write 0xbad fault counter true",
            "1 read 0x1 value counter null",
        ]
    );
    assert_eq!(of("0x77777"), ["1 read null fault null null"]);
    let times: Vec<u64> = lines.iter().filter_map(|line| at(line, "/t").as_u64()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let end = lines.last().expect("there are lines");
    let accesses = lines.iter().filter(|line| at(line, "/kind") == "access").count();
    assert_eq!((at(end, "/kind"), at(end, "/lines")), (&"end".into(), &accesses.into()));
    Ok(())
}

#[apply(test)]
fn a_replay_needs_no_kvm_and_differs_in_nothing() -> Outcome {
    let workdir = recorded()?;
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    assert!(run.stdout.starts_with("r.jsonl: 0 of "), "{run}");
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert!(at(&report, "/accesses").as_u64() > Some(8), "{run}");
    for none in ["/different", "/different_timers", "/unmatched", "/dropped", "/cut"] {
        assert_eq!(at(&report, none), 0, "{none}: {run}");
    }
    Ok(())
}

#[apply(test)]
fn other_plugins_differ_and_are_listed() -> Outcome {
    let workdir = recorded()?;
    workdir.put("counter.wasm", BY_TWO.wasm());
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml"]).exited(1);
    // The write of 0xf is taken now, and counted from.
    assert!(run.stdout.starts_with("r.jsonl: 4 of "), "{run}");
    let row = |words: &[&str]| {
        let fits = |line: &str| line.split_whitespace().skip(1).eq(words.iter().copied());
        assert!(run.stdout.lines().any(fits), "no row {words:?}: {run}");
    };
    row(&["0", "0x1000", "-", "read", "0x1", "0x2"]);
    row(&["0", "0x1000", "-", "read", "0x11", "0x12"]);
    row(&["0", "0x1000", "-", "write", "0xf", "fault", "ok"]);
    row(&["1", "0x1000", "-", "read", "0x1", "0x2"]);
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml", "--limit", "1"]);
    assert!(run.stdout.contains("and 3 more"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_recording_is_blessed() -> Outcome {
    let workdir = recorded()?;
    workdir.put("counter.wasm", BY_TWO.wasm());
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml", "--bless"]).exited(0);
    assert!(run.stdout.contains("it has the new answers now"), "{run}");
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    workdir.put("counter.wasm", COUNTER.wasm());
    workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml"]).exited(1);
    Ok(())
}

#[apply(test)]
fn every_boot_is_recorded() -> Outcome {
    let vm = Vm::new().arguments(&["--record", "r.jsonl", "--max-boots", "3"]).plugin(&COUNTER);
    let (workdir, running) = vm.start("r 1000 -> 1\noutb 64 fe ->")?;
    running.finish().exited(14);
    let lines = lines(&workdir.path().join("r.jsonl"));
    let boots = lines.iter().filter_map(|line| at(line, "/boot").as_u64());
    assert_eq!(boots.collect::<Vec<_>>(), [1, 2, 3]);
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    assert!(run.stdout.contains("in 3 boots"), "{run}");
    Ok(())
}

#[apply(test)]
fn an_older_recording_makes_room_and_nothing_else_does() -> Outcome {
    let workdir = recorded()?;
    let again = |file: &str| workdir.wasmsr(&["run", "vm.toml", "--record", file]);
    again("r.jsonl").exited(guest_exit(0));
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    for precious in ["vm.toml", "counter.wasm"] {
        let before = fs::read(workdir.path().join(precious)).expect("it is there");
        again(precious).refused(&[precious, "exists and is not a recording; name another"]);
        assert_eq!(fs::read(workdir.path().join(precious)).expect("it is there"), before);
    }
    Ok(())
}

#[apply(test)]
fn a_recording_that_cannot_be_written_starts_nothing() -> Outcome {
    let vm = Vm::new().arguments(&["--record", "no/such/folder.jsonl"]).plugin(&COUNTER);
    vm.run(SCRIPT)?.refused(&["cannot record to no/such/folder.jsonl", "check the path"]);
    Ok(())
}

#[apply(test)]
fn what_is_not_a_recording_is_refused() -> Outcome {
    let workdir = Workdir::new();
    let replay = |file: &str| -> Run { workdir.wasmsr(&["replay", file]) };
    replay("none.jsonl").refused(&["cannot read recording none.jsonl"]);
    for (name, text) in [("empty", ""), ("text", "hello\n"), ("json", "{}\n"), ("nul", "\0\0\0")] {
        workdir.put(name, text);
        replay(name).refused(&[
            name,
            "is not a recording",
            "`wasmsr run --record FILE` writes one",
        ]);
    }
    Ok(())
}

#[apply(test)]
fn a_recording_that_was_cut_off_says_so() -> Outcome {
    let workdir = recorded()?;
    let whole = fs::read(workdir.path().join("r.jsonl")).expect("it is there");
    let (part, _) = whole.split_at(whole.len() - 9);
    workdir.put("r.jsonl", part);
    let last = whole.iter().filter(|&&byte| byte == b'\n').count();
    let part = format!("ends in the middle of line {last}");
    workdir
        .wasmsr(&["replay", "r.jsonl"])
        .exited(0)
        .said(&[&part, "all lines before it are whole"]);
    Ok(())
}

#[apply(test)]
fn a_whole_linux_is_recorded_and_replayed() -> Outcome {
    let lines = "grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\nconfig.refresh-ms = 50";
    let vm = Vm::new().vcpus(2).memory("256MiB").arguments(&["--record", "r.jsonl"]);
    let vm = vm.shipped("kvm_clock", lines).shipped("unknown_log", "");
    let mut shell = Shell::of(vm)?;
    shell.ask(
        "sum",
        "for i in 1 2 3 4 5; do rdmsr -a 0x4b564d01 > /dev/null; sleep 0.1; done; echo 5",
    );
    let (workdir, run) = shell.power_off_keeping_its_folder();
    assert_eq!(run.answer("sum"), "5", "{run}");
    assert!(!run.stderr.contains("missing"), "{run}");
    let replayed = workdir.wasmsr(&["replay", "r.jsonl", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&replayed.stdout).expect("it is JSON");
    assert!(at(&report, "/accesses").as_u64() > Some(10), "{replayed}");
    assert_eq!(
        (at(&report, "/different"), at(&report, "/unmatched")),
        (&0.into(), &0.into()),
        "{replayed}"
    );
    Ok(())
}

#[apply(test)]
fn a_recording_becomes_a_test() -> Outcome {
    let workdir = recorded()?;
    let test = |more: &[&str]| {
        let mut arguments = vec!["plugin", "test", "counter.wasm"];
        arguments.extend(more);
        workdir.wasmsr(&arguments)
    };
    let run = test(&["--add", "r.jsonl"]).exited(0).said(&["traces/r.jsonl is a test now"]);
    assert!(run.stdout.contains("traces/r.jsonl ... ok"), "{run}");
    // The test needs nothing of what was there when it was recorded.
    fs::remove_file(workdir.path().join("r.jsonl")).expect("it is there");
    fs::remove_file(workdir.path().join("vm.toml")).expect("it is there");
    workdir.put("counter.wasm", BY_TWO.wasm());
    let run = test(&[]).exited(1);
    for part in [
        "- vCPU 0, 0x1000: read -> 0x1\n",
        "+ vCPU 0, 0x1000: read -> 0x2\n",
        "- vCPU 0, 0x1000: write 0xf -> fault\n",
        "+ vCPU 0, 0x1000: write 0xf -> ok\n",
        "0 passed, 1 failed",
    ] {
        assert!(run.stdout.contains(part), "no `{part}`: {run}");
    }
    let run = test(&["--json"]).exited(1);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let listed = at(&report, "/tests/0/differences").as_array().map(Vec::len);
    assert_eq!((listed, at(&report, "/tests/0/more")), (Some(4), &0.into()), "{run}");
    let run = test(&["--bless"]).exited(0);
    assert!(run.stdout.contains("traces/r.jsonl ... blessed"), "{run}");
    test(&[]).exited(0);
    workdir.put("counter.wasm", COUNTER.wasm());
    test(&[]).exited(1);
    Ok(())
}

/// Answers an MSR of its own, by the clock.
const CLOCK: Plugin = Plugin {
    name: "clock",
    manifest: r#"msr = [{ range = "0x2000", access = "r", scope = "vcpu" }]"#,
    code: r#"
        (import "wasmsr" "monotonic_ns" (func $ns (result i64)))
        (reads (call $ns))
    "#,
};

#[apply(test)]
fn of_several_plugins_one_is_tested() -> Outcome {
    let vm = Vm::new().arguments(&["--record", "both.jsonl"]).plugin(&COUNTER).plugin(&CLOCK);
    let script = "r 1000 -> 1\nr 2000 -> ?\nr 1000 -> 2\nr 2000 -> ?";
    let (workdir, running) = vm.start(script)?;
    running.finish().exited(guest_exit(0));
    let said = ["is a test now: 2 accesses, without 2 that other plugins answered"];
    for plugin in ["counter", "clock"] {
        let folder = format!("{plugin}-traces");
        let file = format!("{plugin}.wasm");
        let arguments = ["plugin", "test", &file, "--add", "both.jsonl", "--traces", &folder];
        workdir.wasmsr(&arguments).exited(0).said(&said);
        let kept = lines(&workdir.path().join(folder).join("both.jsonl"));
        let boot = kept.first().expect("there are lines");
        assert_eq!(at(boot, "/plugins").as_array().map(Vec::len), Some(1), "{boot}");
        let others =
            |line: &&Value| at(line, "/plugin").as_str().is_some_and(|name| name != plugin);
        assert_eq!(kept.iter().find(others), None);
    }
    Ok(())
}

#[apply(test)]
fn what_cannot_become_a_test() -> Outcome {
    let workdir = recorded()?;
    workdir.put("clock.wasm", CLOCK.wasm());
    let add = |plugin: &str, recording: &str| -> Run {
        workdir.wasmsr(&["plugin", "test", plugin, "--add", recording])
    };
    add("clock.wasm", "r.jsonl").refused(&["ran without plugin clock", "it had counter"]);
    add("counter.wasm", "none.jsonl").refused(&["cannot read recording none.jsonl"]);
    add("counter.wasm", "vm.toml").refused(&["vm.toml is not a recording"]);
    assert!(!workdir.path().join("traces/r.jsonl").exists());
    add("counter.wasm", "r.jsonl").exited(0);
    add("counter.wasm", "r.jsonl").refused(&["traces/r.jsonl exists already", "another name"]);
    Ok(())
}
