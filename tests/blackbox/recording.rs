//! `wasmsr recording show`, `stats` and `diff`: recordings, looked at; and
//! recordings that are broken or mean harm.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::{
    Outcome, Plugin, Recording, Run, Running, Vm, Workdir, apply, guest_exit, test, wasmsr,
};

/// Two boots, with a fault, a failure, and lines that are missing.
fn recording() -> Recording {
    Recording::with(&["arch-capabilities", "counter"])
        .access(json!({ "name": "IA32_ARCH_CAPABILITIES", "value": "0x2b", "plugin": "arch-capabilities" }))
        .access(json!({ "op": "write", "value": "0x1", "plugin": "arch-capabilities", "outcome": "fault" }))
        .line(json!({ "kind": "dropped", "t": 2500, "lines": 7 }))
        .access(json!({ "msr": "0x434e5400", "vcpu": 1, "plugin": "counter", "value": "0x1",
            "calls": [{ "plugin": "counter", "call": "tsc_khz", "value": 2_400_000 }] }))
        .access(json!({ "msr": "0x434e5401", "plugin": "counter", "outcome": "fault", "failed": true }))
        .access(json!({ "msr": "0x1b", "name": "IA32_APIC_BASE", "outcome": "kernel", "value": "0xfee00900", "ns": 90 }))
        .line(json!({ "kind": "end", "t": 6000, "boot": 1, "lines": 5, "dropped": 7 }))
        .boot(2, &["counter"])
        .access(json!({ "msr": "0x434e5400", "plugin": "counter", "value": "0x1" }))
}

fn trace(arguments: &[&str], text: &str) -> Run {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", text);
    let mut all = vec!["recording"];
    all.extend(arguments);
    workdir.wasmsr(&all)
}

/// Lines of `recording show` that are accesses, with single spaces.
fn shown(filters: &[&str]) -> Vec<String> {
    let mut arguments = vec!["show", "r.jsonl"];
    arguments.extend(filters);
    let run = trace(&arguments, &recording().text()).exited(0);
    let lines = run.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let accesses = lines.filter(|words| words.iter().any(|word| ["read", "write"].contains(word)));
    accesses.map(|words| words.join(" ")).collect()
}

fn json_of(run: Run) -> Value {
    serde_json::from_str(&run.exited(0).stdout).expect("it is JSON")
}

#[apply(test)]
fn an_access_is_a_line() -> Outcome {
    let expected = [
        "0.000001 s 0 read 0x10a IA32_ARCH_CAPABILITIES 0x2b value arch-capabilities 500 ns",
        "0.000002 s 0 write 0x10a - 0x1 fault arch-capabilities 500 ns",
        "0.000003 s 1 read 0x434e5400 - 0x1 value counter 500 ns",
        "0.000004 s 0 read 0x434e5401 - - fault counter 500 ns the plugin failed",
        "0.000005 s 0 read 0x1b IA32_APIC_BASE 0xfee00900 kernel (policy) 90 ns",
        "0.000006 s 0 read 0x434e5400 - 0x1 value counter 500 ns",
    ];
    assert_eq!(shown(&[]), expected);
    Ok(())
}

#[apply(test)]
fn boots_and_gaps_are_shown_in_their_place() -> Outcome {
    let run = trace(&["show", "r.jsonl"], &recording().text()).exited(0);
    let place = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("no `{text}`:\n{run}"));
    let order = ["boot 1, 2026-11-25", "0.000002 s", "7 lines are missing", "0.000003 s", "boot 2"];
    assert!(order.map(place).is_sorted(), "{run}");
    assert!(run.stdout.contains("plugin counter 1.2.3, SHA-256 abababababab\n"), "{run}");
    Ok(())
}

#[apply(test)]
fn filters_choose_accesses() -> Outcome {
    let cases: &[(&[&str], usize)] = &[
        (&["--msr", "0x10a"], 2),
        (&["--msr", "0x1b,0x434e5400-0x434e54ff"], 4),
        (&["--vcpu", "1"], 1),
        (&["--outcome", "fault"], 2),
        (&["--outcome", "failed"], 1),
        (&["--outcome", "kernel,failed"], 2),
        (&["--plugin", "counter"], 3),
        (&["--plugin", "policy"], 1),
        (&["--op", "write"], 1),
        (&["--boot", "2"], 1),
        (&["--limit", "2"], 2),
        (&["--limit", "0"], 0),
        (&["--plugin", "counter", "--boot", "1", "--vcpu", "0"], 1),
        (&["--msr", "0x999"], 0),
    ];
    for (filters, count) in cases {
        assert_eq!(shown(filters).len(), *count, "{filters:?}");
    }
    let run = trace(&["show", "r.jsonl", "--msr", "0x10b-0x10a"], "").exited(2);
    run.said(&["runs backwards"]);
    Ok(())
}

#[apply(test)]
fn host_calls_are_shown_when_asked_for() -> Outcome {
    let text = recording().text();
    let call = "counter: tsc_khz value=2400000";
    let run = trace(&["show", "r.jsonl", "--calls"], &text).exited(0);
    assert!(run.stdout.contains(call), "{run}");
    let run = trace(&["show", "r.jsonl"], &text).exited(0);
    assert!(!run.stdout.contains(call), "{run}");
    Ok(())
}

#[apply(test)]
fn chosen_lines_are_a_recording_again() -> Outcome {
    let all = trace(&["show", "r.jsonl", "--json"], &recording().text()).exited(0).stdout;
    let again = trace(&["show", "r.jsonl", "--json"], &all).exited(0).stdout;
    assert_eq!(all, again);
    let lines = |text: &str| text.lines().count();
    assert_eq!(lines(&all), lines(&recording().text()));
    let some = trace(&["show", "r.jsonl", "--json", "--op", "write"], &all).exited(0).stdout;
    let accesses = some.lines().filter(|line| line.contains("\"kind\":\"access\""));
    assert_eq!(accesses.count(), 1, "{some}");
    Ok(())
}

#[apply(test)]
fn standard_input_is_read() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", recording().text());
    let file = std::fs::File::open(workdir.path().join("r.jsonl")).expect("it is there");
    let output = wasmsr(&["recording", "stats", "-", "--json"]).stdin(file).output();
    let output = output.expect("the command runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(report["total"]["reads"], 5, "{report:#}");
    Ok(())
}

#[apply(test)]
fn a_reader_may_go_away() -> Outcome {
    let workdir = Workdir::new();
    let many = (0..20_000).fold(Recording::with(&[]), |all, _| all.access(json!({})));
    workdir.put("r.jsonl", many.text());
    for arguments in
        [&["recording", "show", "r.jsonl"][..], &["recording", "show", "r.jsonl", "--json"]]
    {
        let mut command = wasmsr(arguments);
        command.current_dir(workdir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let stdout = child.stdout.take().expect("the pipe was asked for");
        let mut first = String::new();
        BufReader::with_capacity(16, stdout).read_line(&mut first).expect("it prints");
        assert!(first.contains("boot"), "{first}");
        let mut said = String::new();
        let stderr = child.stderr.as_mut().expect("the pipe was asked for");
        stderr.read_to_string(&mut said).expect("errors are text");
        let status = child.wait().expect("the command ends");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
    Ok(())
}

#[apply(test)]
fn accesses_are_counted() -> Outcome {
    let report = json_of(trace(&["stats", "r.jsonl", "--json"], &recording().text()));
    let total = &report["total"];
    for (key, expected) in [
        ("reads", 5),
        ("writes", 1),
        ("faults", 2),
        ("failures", 1),
        ("kernel", 1),
        ("max_ns", 500),
    ] {
        assert_eq!(total[key], expected, "{key} in {report:#}");
    }
    assert_eq!((&report["dropped"], &report["boots"]), (&json!(7), &json!(2)));
    let calls = json!([{ "plugin": "counter", "call": "tsc_khz", "count": 1 }]);
    assert_eq!(report["calls"], calls);
    let rows: Vec<&Value> = report["msrs"].as_array().expect("a list").iter().collect();
    let row = rows.iter().find(|row| row["msr"] == "0x434e5400").expect("its row");
    assert_eq!(
        (&row["reads"], &row["first_t"], &row["last_t"]),
        (&json!(2), &json!(3000), &json!(6000))
    );

    let run = trace(&["stats", "r.jsonl", "--msr", "0x10a"], &recording().text()).exited(0);
    let rows = run.stdout.lines().filter(|line| line.starts_with("0x"));
    assert_eq!(rows.collect::<Vec<_>>().len(), 1, "{run}");
    Ok(())
}

fn diff(a: &Recording, b: &Recording, arguments: &[&str]) -> Run {
    let workdir = Workdir::new();
    workdir.put("a.jsonl", a.text());
    workdir.put("b.jsonl", b.text());
    let mut all = vec!["recording", "diff", "a.jsonl", "b.jsonl"];
    all.extend(arguments);
    workdir.wasmsr(&all)
}

#[apply(test)]
fn the_same_accesses_are_not_a_difference() -> Outcome {
    let run = diff(&recording(), &recording(), &[]).exited(0);
    assert!(run.stdout.contains("the same accesses with the same answers"), "{run}");
    Ok(())
}

#[apply(test)]
fn what_differs_is_listed() -> Outcome {
    let a = recording()
        .access(json!({ "value": "0x2b" }))
        .access(json!({ "op": "write", "value": "0x5" }));
    let b = recording()
        .access(json!({ "value": "0x2f" }))
        .access(json!({ "op": "write", "value": "0x6" }));
    let run = diff(&a, &b, &[]).exited(1);
    for part in [
        "0x2b, (policy)",
        "0x2f, (policy)",
        "write 0x10a (IA32_ARCH_CAPABILITIES) = 0x5",
        "1 only in A, 1 only in B, 1 with other answers",
    ] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    let run = diff(&a, &b, &["--json", "--limit", "1"]).exited(1);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let counts = ["only_a", "only_b", "answers_differ"].map(|key| report[key].clone());
    assert_eq!(counts, [1, 1, 1].map(Value::from), "{report:#}");
    assert_eq!(report["differences"].as_array().map(Vec::len), Some(1));
    // What is not looked at does not differ.
    diff(&a, &b, &["--msr", "0x434e5400"]).exited(0);
    Ok(())
}

#[apply(test)]
fn times_make_no_difference() -> Outcome {
    let a = Recording::with(&[]).access(json!({ "t": 5, "ns": 1 }));
    let b = Recording::with(&[]).access(json!({ "t": 900, "ns": 77_000 }));
    diff(&a, &b, &[]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_gap_is_that_and_nothing_else() -> Outcome {
    // Reads of a counter: each answer is another one.
    let reads = |skip: fn(u32) -> bool| {
        (0..4000_u32).filter(|n| !skip(*n)).fold(Recording::with(&[]), |recording, n| {
            recording.access(
                json!({ "msr": format!("{:#x}", n * n % 30), "value": format!("{:#x}", n / 7) }),
            )
        })
    };
    let (a, b) =
        (reads(|_| false), reads(|n| (500..800).contains(&n) || (3000..3150).contains(&n)));
    let run = diff(&a, &b, &[]).exited(1);
    assert!(run.stdout.contains("450 only in A, 0 only in B, 0 with other answers"), "{run}");
    assert!(!run.stdout.contains("there may be one with fewer"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_filter_of_answers_chooses_pairs() -> Outcome {
    let a = recording().access(json!({ "value": "0x2b", "plugin": "counter" }));
    let b = recording().access(json!({ "outcome": "fault" }));
    for filter in [&["--outcome", "fault"], &["--plugin", "counter"], &["--plugin", "policy"]] {
        let run = diff(&a, &b, filter).exited(1);
        assert!(run.stdout.contains("0 only in A, 0 only in B, 1 with other"), "{filter:?} {run}");
        assert!(
            run.stdout.contains("0x2b, counter") && !run.stdout.contains("(not done)"),
            "{run}"
        );
    }
    diff(&a, &b, &["--outcome", "kernel"]).exited(0);
    Ok(())
}

#[apply(test)]
fn the_last_access_is_not_waited_behind() -> Outcome {
    let text = Recording::with(&[]).access(json!({})).text();
    let mut child = wasmsr(&["recording", "show", "-", "--limit", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("the pipe was asked for");
    std::io::Write::write_all(&mut stdin, text.as_bytes()).expect("it reads");
    // Ends while more may come.
    assert!(child.wait().expect("the command ends").success());
    drop(stdin);
    Ok(())
}

#[apply(test)]
fn one_vcpu_more_does_not_shift_the_others() -> Outcome {
    let a =
        Recording::with(&[]).access(json!({ "value": "0x1" })).access(json!({ "value": "0x2" }));
    let b = Recording::with(&[])
        .access(json!({ "value": "0x1" }))
        .access(json!({ "vcpu": 1, "value": "0x9" }))
        .access(json!({ "value": "0x2" }));
    let run = diff(&a, &b, &[]).exited(1);
    assert!(run.stdout.contains("0 only in A, 1 only in B, 0 with other answers"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_recorder_that_was_killed() -> Outcome {
    let text = recording().text();
    let whole = text.get(..text.len() - 20).expect("it is longer");
    let run = trace(&["show", "r.jsonl"], whole).exited(0).said(&["in the middle of line 10"]);
    assert!(run.stdout.contains("0.000005 s"), "{run}");
    let run = trace(&["stats", "r.jsonl", "--json"], whole).said(&["in the middle of line 10"]);
    assert_eq!(json_of(run)["cut_off"], true);
    Ok(())
}

#[apply(test)]
fn what_is_not_a_recording_is_refused() -> Outcome {
    let boot = Recording::with(&[]).text();
    let later = boot.replace("\"format\":1", "\"format\":9");
    let unknown = format!("{boot}{{\"kind\":\"wait\"}}\n");
    let cases: &[(&str, &[&str])] = &[
        ("", &["is not a recording"]),
        ("[vm]\n", &["is not a recording"]),
        (&later, &["format 9"]),
        (&unknown, &["line 2", "wait"]),
    ];
    for (text, parts) in cases {
        trace(&["stats", "r.jsonl"], text).refused(parts);
        trace(&["diff", "r.jsonl", "r.jsonl"], text).refused(parts);
        trace(&["report", "r.jsonl", "-o", "page.html"], text).refused(parts);
        // What is whole has been shown by then.
        trace(&["show", "r.jsonl"], text).exited(2).said(parts);
    }
    Workdir::new().wasmsr(&["recording", "show", "x"]).refused(&["x", "No such file"]);
    Workdir::new().wasmsr(&["recording", "show", "."]).refused(&["Is a directory"]);
    Running::start(&mut wasmsr(&["recording", "diff", "-", "-"])).finish().refused(&["not both"]);
    Ok(())
}

#[apply(test)]
fn hostile_names_do_nothing_to_a_terminal() -> Outcome {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\nevil";
    let recording = Recording::with(&[evil])
        .access(json!({ "name": evil, "plugin": evil, "calls": [
            { "plugin": evil, "call": "host_file", "path": evil, "room": 1 }] }))
        .text();
    let unknown = format!("{recording}{{\"kind\":\"\\u001b[2Jevil\"}}\n");
    let workdir = Workdir::new();
    workdir.put("r.jsonl", recording);
    workdir.put("unknown.jsonl", unknown);
    workdir.put("none.jsonl", Recording::with(&[]).text());
    for arguments in [
        &["recording", "show", "r.jsonl", "--calls"][..],
        &["recording", "show", "r.jsonl", "--json"],
        &["recording", "stats", "r.jsonl"],
        &["recording", "stats", "r.jsonl", "--json"],
        &["recording", "diff", "r.jsonl", "none.jsonl"],
        &["recording", "diff", "r.jsonl", "none.jsonl", "--json"],
        &["recording", "report", "r.jsonl", "-o", "-"],
        &["recording", "stats", "unknown.jsonl"],
    ] {
        let run = workdir.wasmsr(arguments);
        assert!(format!("{}{}", run.stdout, run.stderr).contains("evil"), "{arguments:?}:\n{run}");
        let active = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        let printed = run.stdout.chars().chain(run.stderr.chars()).find(|&c| active(c));
        assert_eq!(printed, None, "{arguments:?}:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn unknown_keys_are_passed_over() -> Outcome {
    let text =
        Recording::with(&[]).access(json!({ "later": [1, 2], "more": { "a": null } })).text();
    let report = json_of(trace(&["stats", "r.jsonl", "--json"], &text));
    assert_eq!(report["total"]["reads"], 1);
    Ok(())
}

/// Answers reads with its own number, and faults writes by failing.
const REAL: Plugin = Plugin {
    name: "real",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: "(reads (i64.const 42)) (writes unreachable)",
};

#[apply(test)]
fn a_real_run_can_be_looked_at() -> Outcome {
    let vm = Vm::new().plugin(&REAL).arguments(&["--record", "r.jsonl"]);
    let (workdir, running) = vm.start("r 1000 -> 2a\nw 1000 5 -> fault\nr 1000 -> 2a")?;
    running.finish().exited(guest_exit(0));
    let report =
        json_of(workdir.wasmsr(&["recording", "stats", "r.jsonl", "--json", "--msr", "0x1000"]));
    let counts = ["reads", "writes", "faults", "failures"].map(|key| report["total"][key].clone());
    assert_eq!(counts, [2, 1, 1, 1].map(Value::from), "{report:#}");
    workdir.wasmsr(&["recording", "diff", "r.jsonl", "r.jsonl"]).exited(0);
    let run = workdir.wasmsr(&["recording", "show", "r.jsonl", "--outcome", "failed"]).exited(0);
    assert_eq!(run.stdout.matches("the plugin failed").count(), 1, "{run}");
    workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "page.html"]).exited(0);
    Ok(())
}
