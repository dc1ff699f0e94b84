//! Recordings in which sets of plugins are swapped, or that begin in a running VM: as the
//! verbs show them, and replayed.

use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::fixture::{
    Counter, Counts, Outcome, Plugin, Recording, Run, Workdir, apply, prove, test,
};

/// A plugin that counts its reads, and saves the count. Its answers have a version in
/// their low byte.
macro_rules! counts {
    ($version:literal) => {
        Plugin {
            name: "counts",
            manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
            code: concat!(
                r#"
                (import "wasmsr" "save_state" (func $save (param i32 i32) (result i32)))
                (import "wasmsr" "saved_state" (func $saved (param i32 i32) (result i32)))
                (global $count (mut i64) (i64.const 0))
                (func (export "save") (result i32)
                    (i64.store (i32.const 0) (global.get $count))
                    (call $save (i32.const 0) (i32.const 8)))
                (func (export "restore") (result i32)
                    (drop (call $saved (i32.const 0) (i32.const 8)))
                    (global.set $count (i64.load (i32.const 0)))
                    (i32.const 0))
                (reads
                    (global.set $count (i64.add (global.get $count) (i64.const 1)))
                    (i64.add (i64.shl (global.get $count) (i64.const 8)) (i64.const "#,
                $version,
                ")))"
            ),
        }
    };
}

const VERSIONS: [Plugin; 2] = [counts!("1"), counts!("2")];
const OTHER: Plugin = counts!("7");

/// Puts a set with this version of the plugin into the folder, and gives the keys with
/// which a line describes it.
fn set(workdir: &Workdir, version: usize) -> Value {
    let wasm = VERSIONS[version - 1].wasm();
    let (file, profile) = (format!("v{version}.wasm"), format!("v{version}.toml"));
    let sha256: String = Sha256::digest(&wasm).iter().map(|byte| format!("{byte:02x}")).collect();
    workdir.put(&file, wasm);
    let text = format!("[boot]\nguest = \"hello\"\n\n[[plugin]]\npath = \"{file}\"\n");
    workdir.put(&profile, &text);
    let path = |name: &str| workdir.path().join(name).display().to_string();
    let plugin =
        json!({ "name": "counts", "version": "1.0.0", "sha256": sha256, "path": path(&file) });
    json!({ "plugins": [plugin], "profile": path(&profile), "text": text })
}

/// A line with the keys of a set.
fn with(mut line: Value, set: &Value) -> Value {
    let keys = line.as_object_mut().expect("it is an object");
    keys.extend(set.as_object().expect("it is one too").clone());
    line
}

fn read(recording: Recording, generation: u64, value: &str) -> Recording {
    let mut keys = json!({ "msr": "0x1000", "plugin": "counts", "value": value });
    if generation > 1 {
        keys["generation"] = json!(generation);
    }
    recording.access(keys)
}

fn swap(set: &Value, generation: u64, cause: &str) -> Value {
    let digest = "cd".repeat(32);
    let line = json!({
        "kind": "swap", "t": 2500, "generation": generation, "cause": cause, "set": digest,
    });
    with(line, set)
}

/// Version 1 answers twice, version 2 twice, and version 1 comes back.
fn swapped(workdir: &Workdir) -> Recording {
    let (one, two) = (set(workdir, 1), set(workdir, 2));
    let boot = with(
        json!({
            "kind": "boot", "format": 1, "version": "0.1.0", "t": 0, "unix_ms": 1, "boot": 1, "vcpus": 1,
        }),
        &one,
    );
    let recording = Recording::empty().line(boot).line(json!({ "kind": "start", "t": 0 }));
    let recording = read(read(recording, 1, "0x101"), 1, "0x201").line(swap(&two, 2, "swap"));
    let recording = read(read(recording, 2, "0x302"), 2, "0x402").line(swap(&one, 3, "return"));
    read(recording, 3, "0x501").line(json!({ "kind": "end", "t": 9000, "lines": 5, "dropped": 0 }))
}

fn json_of(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).expect("it is JSON")
}

#[apply(test)]
fn a_swap_is_shown_in_its_place_and_counted() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", swapped(&workdir).text());
    let run = workdir.wasmsr(&["recording", "show", "r.jsonl"]).exited(0);
    let place = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("no `{text}`:\n{run}"));
    let order = [
        "0x201",
        "generation 2 is in charge: swap, set cdcdcdcdcdcd, ",
        "0x302",
        "generation 3 is in charge: return, set ",
        "0x501",
    ];
    assert!(order.map(place).is_sorted(), "{run}");
    workdir.wasmsr(&["recording", "show", "r.jsonl", "--json"]).exited(0);
    let stats = workdir.wasmsr(&["recording", "stats", "r.jsonl"]).exited(0);
    assert!(stats.stdout.contains("2  swaps to other sets of plugins"), "{stats}");
    let stats = workdir.wasmsr(&["recording", "stats", "r.jsonl", "--json"]).exited(0);
    assert_eq!(json_of(&stats)["swaps"], 2);
    workdir.wasmsr(&["recording", "report", "r.jsonl", "-o", "page.html"]).exited(0);
    let page = std::fs::read_to_string(workdir.path().join("page.html")).expect("it is there");
    assert!(page.contains("<h3>Swaps</h3>") && page.contains("<td>return</td>"));
    Ok(())
}

#[apply(test)]
fn what_is_shown_as_json_is_the_recording_with_its_swaps() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", swapped(&workdir).text());
    let all = workdir.wasmsr(&["recording", "show", "r.jsonl", "--json"]).exited(0).stdout;
    let lines = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect()
    };
    assert_eq!(lines(&all), lines(&swapped(&workdir).text()));
    // Up to its swap, a generation can be replayed with what was before it left out.
    for (generation, swaps, accesses) in [("1", 0, 2), ("2", 1, 2), ("3", 2, 1), ("4", 2, 0)] {
        let arguments = ["recording", "show", "r.jsonl", "--json", "--generation", generation];
        let some = workdir.wasmsr(&arguments).exited(0).stdout;
        let count = |kind: &str| lines(&some).iter().filter(|line| line["kind"] == kind).count();
        assert_eq!((count("swap"), count("access")), (swaps, accesses), "{generation}: {some}");
    }
    Ok(())
}

#[apply(test)]
fn a_swap_makes_no_difference_to_what_a_guest_was_answered() -> Outcome {
    let workdir = Workdir::new();
    let to = swap(&set(&workdir, 1), 2, "swap");
    let with_swap = read(read(Recording::with(&[]), 1, "0x1").line(to), 2, "0x2");
    workdir.put("a.jsonl", with_swap.text());
    workdir.put("b.jsonl", read(read(Recording::with(&[]), 1, "0x1"), 1, "0x2").text());
    workdir.wasmsr(&["recording", "diff", "a.jsonl", "b.jsonl"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_replay_goes_on_through_swaps_with_the_plugins_recorded() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", swapped(&workdir).text());
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    assert_eq!(run.stdout, "r.jsonl: 0 of 5 accesses in 1 boot with 2 swaps differ\n");
    // A version that is not what was recorded is not run.
    workdir.put("v2.wasm", OTHER.wasm());
    workdir.wasmsr(&["replay", "r.jsonl"]).refused(&[
        "recording r.jsonl, line 5: plugin ",
        "v2.wasm is not the file that was recorded",
        "--profile",
    ]);
    Ok(())
}

#[apply(test)]
fn ten_thousand_swaps_are_replayed_within_the_patience_of_a_test() -> Outcome {
    const SWAPS: u64 = 10_000;
    let workdir = Workdir::new();
    let sets = [set(&workdir, 2), set(&workdir, 1)];
    let mut recording = swapped(&workdir);
    recording.pop();
    let mut count = 5;
    for (generation, set) in (4..SWAPS + 2).zip(sets.iter().cycle()) {
        count += 1;
        let version = if generation % 2 == 0 { 2 } else { 1 };
        recording = recording.line(swap(set, generation, "swap"));
        recording = read(recording, generation, &format!("{:#x}", count << 8 | version));
    }
    let end = json!({ "kind": "end", "t": 9000, "lines": count, "dropped": 0 });
    workdir.put("r.jsonl", recording.line(end).text());
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    let said = format!("r.jsonl: 0 of {count} accesses in 1 boot with {SWAPS} swaps differ\n");
    assert_eq!(run.stdout, said);
    let counter = Counter { msr: 0x1000, counts: Counts::EachVcpu, mark_bits: 8 };
    let proved = prove(&workdir.path().join("r.jsonl"), &[counter]);
    assert_eq!(proved.unwrap_or_else(|broken| panic!("{broken}")).swaps, SWAPS);
    Ok(())
}

#[apply(test)]
fn a_profile_stands_for_the_first_set_and_the_rest_is_said() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", swapped(&workdir).text());
    let run = workdir.wasmsr(&["replay", "r.jsonl", "--profile", "v1.toml"]).exited(0);
    for part in ["0 of 2 accesses in 1 boot differ", "3 accesses were not repeated: another set"] {
        assert!(run.stdout.contains(part), "no `{part}`: {run}");
    }
    let arguments = ["replay", "r.jsonl", "--profile", "v2.toml", "--json"];
    let report = json_of(&workdir.wasmsr(&arguments).exited(1));
    assert_eq!((&report["different"], &report["left_out"]), (&json!(2), &json!(3)));
    let before = std::fs::read(workdir.path().join("r.jsonl")).expect("it is there");
    let arguments = ["replay", "r.jsonl", "--profile", "v2.toml", "--bless"];
    workdir.wasmsr(&arguments).refused(&["line 5", "--profile names one", "--generation"]);
    assert_eq!(std::fs::read(workdir.path().join("r.jsonl")).expect("it is there"), before);
    Ok(())
}

#[apply(test)]
fn a_recording_of_a_running_vm_says_what_it_does_not_know() -> Outcome {
    let workdir = Workdir::new();
    let boot = with(
        json!({
            "kind": "boot", "format": 1, "version": "0.1.0", "t": 0, "unix_ms": 1, "boot": 1, "vcpus": 1,
            "generation": 4, "unsaved": ["counts\u{1b}[2J"],
        }),
        &set(&workdir, 1),
    );
    let recording = Recording::empty().line(boot).line(json!({ "kind": "start", "t": 0 }));
    workdir.put("r.jsonl", read(recording, 4, "0x901").text());
    let run = workdir.wasmsr(&["recording", "show", "r.jsonl"]).exited(0);
    for part in ["begins in a running VM, in generation 4", r"not known: counts\u{1b}[2J"] {
        assert!(run.stdout.contains(part), "no `{part}`: {run}");
    }
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(1);
    assert!(run.stdout.contains(r"does not have the state of counts\u{1b}[2J then"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_test_of_a_plugin_is_of_one_set() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("r.jsonl", swapped(&workdir).text());
    let keep = |file: &Path| {
        let file = file.display().to_string();
        workdir.wasmsr(&["plugin", "test", "v1.wasm", "--add", &file])
    };
    keep(Path::new("r.jsonl")).refused(&["line 5: generation 2 takes charge", "--generation 1"]);
    let one = ["recording", "show", "r.jsonl", "--json", "--generation", "1"];
    workdir.put("one.jsonl", workdir.wasmsr(&one).exited(0).stdout);
    keep(Path::new("one.jsonl")).exited(0);
    Ok(())
}
