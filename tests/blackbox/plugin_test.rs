//! `wasmsr plugin test` with built files: which plugin is tested, and what is no
//! test.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

/// Reads 5.
const OLD: Plugin = Plugin {
    name: "eight-bits",
    manifest: r#"msr = [{ range = "0x10", access = "r" }]"#,
    code: "(reads (i64.const 5))",
};

/// Reads 6.
const NEW: Plugin = Plugin { code: "(reads (i64.const 6))", ..OLD };

/// The old version with a trace of it.
fn workdir(steps: &str) -> Workdir {
    let workdir = Workdir::new();
    workdir.put("eight_bits.wasm", OLD.wasm());
    fs::create_dir(workdir.path().join("traces")).expect("a folder can be made");
    let trace = format!("[[plugin]]\npath = \"eight_bits.wasm\"\n---\n{steps}");
    workdir.put("traces/x.trace", trace);
    workdir
}

fn trace_of(workdir: &Workdir) -> String {
    fs::read_to_string(workdir.path().join("traces/x.trace")).expect("it is there")
}

#[apply(test)]
fn a_built_file_is_tested_too() -> Outcome {
    let workdir = workdir("r 0x10   -> 0x5\n");
    workdir.wasmsr(&["plugin", "test", "eight_bits.wasm"]).exited(0);
    fs::rename(workdir.path().join("traces"), workdir.path().join("other")).expect("it is there");
    workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--traces", "other"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_new_version_is_held_against_the_traces_of_the_old() -> Outcome {
    let workdir = workdir("r 0x10 -> 0x5\n");
    fs::create_dir(workdir.path().join("new")).expect("a folder can be made");
    for new in ["eight_bits-2.wasm", "new/eight_bits.wasm", "new/renamed.wasm"] {
        workdir.put(new, NEW.wasm());
        let run = workdir.wasmsr(&["plugin", "test", new, "--traces", "traces"]).exited(1);
        assert!(run.stdout.contains("+ r 0x10 -> 0x6"), "{new}:\n{run}");
    }
    // The file of the old one has a name of its own, too.
    workdir.put("any.wasm", OLD.wasm());
    workdir.put("traces/x.trace", trace_of(&workdir).replace("eight_bits.wasm", "any.wasm"));
    let arguments = ["plugin", "test", "eight_bits-2.wasm", "--traces", "traces"];
    let run = workdir.wasmsr(&arguments).exited(1);
    assert!(run.stdout.contains("+ r 0x10 -> 0x6"), "{run}");
    Ok(())
}

#[apply(test)]
fn traces_of_another_plugin() -> Outcome {
    let workdir = workdir("r 0x10 -> 0x5\n");
    workdir.put("other.wasm", Plugin { name: "other", ..OLD }.wasm());
    let run = workdir.wasmsr(&["plugin", "test", "other.wasm", "--traces", "traces"]).exited(1);
    assert!(run.stdout.contains("none of its plugins is other"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_trace_that_asks_nothing_is_not_a_test() -> Outcome {
    for steps in ["", "khz 5\n", "# r 0x10 -> 0x6\n"] {
        let run = workdir(steps).wasmsr(&["plugin", "test", "eight_bits.wasm"]).exited(1);
        assert!(run.stdout.contains("asks for no answer"), "{run}");
    }
    Ok(())
}

#[apply(test)]
fn blessing_keeps_comments_and_permissions() -> Outcome {
    let workdir = workdir("# r 0x10 -> 0x4\nr 0x10 -> 0x4  # why\n");
    let path = workdir.path().join("traces/x.trace");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("it is there");
    let before = trace_of(&workdir);
    workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--bless"]).exited(0);
    assert_eq!(trace_of(&workdir), before.replace("0x4  # why", "0x5  # why"));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let left = fs::read_dir(workdir.path().join("traces")).expect("it is there").count();
    assert_eq!(left, 1, "something is left of the writing");
    Ok(())
}

#[apply(test)]
fn many_differences_are_cut() -> Outcome {
    let workdir = workdir(&"r 0x10 -> 0x4\n".repeat(50));
    let run = workdir.wasmsr(&["plugin", "test", "eight_bits.wasm"]).exited(1);
    assert_eq!(run.stdout.matches("+ r 0x10 -> 0x5").count(), 20, "{run}");
    assert!(run.stdout.contains("and 30 more"), "{run}");
    let run = workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--json"]).exited(1);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert_eq!(report.pointer("/tests/0/more"), Some(&30.into()), "{report:#}");
    Ok(())
}

#[apply(test)]
fn a_trace_does_not_move_the_cursor() -> Outcome {
    let workdir = workdir("r 0x10 -> 0x4 # \x1b[2J\u{9b}2J\n");
    for output in [None, Some("--json")] {
        let arguments = ["plugin", "test", "eight_bits.wasm"].into_iter().chain(output);
        let run = workdir.wasmsr(&arguments.collect::<Vec<_>>()).exited(1);
        assert!(!run.stdout.contains(['\x1b', '\u{9b}']), "{run}");
    }
    Ok(())
}

#[apply(test)]
fn a_folder_without_traces() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("eight_bits.wasm", OLD.wasm());
    let run = workdir.wasmsr(&["plugin", "test", "eight_bits.wasm"]);
    run.refused(&["no test in traces", "--traces"]);
    Ok(())
}

#[apply(test)]
fn a_filter_that_matches_nothing() -> Outcome {
    let arguments = ["plugin", "test", "eight_bits.wasm", "--filter", "y"];
    workdir("").wasmsr(&arguments).refused(&["`y`", "x.trace"]);
    Ok(())
}

/// Counts its reads, and saves nothing.
const FORGETFUL: Plugin = Plugin {
    name: "eight-bits",
    manifest: r#"msr = [{ range = "0x10", access = "r" }]"#,
    code: "
        (global $reads (mut i64) (i64.const 0))
        (reads
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))",
};

#[apply(test)]
fn a_swap_that_changes_an_answer_fails_a_trace_if_asked_for() -> Outcome {
    let workdir = workdir("r 0x10 -> 0x5\nr 0x10 -> 0x5\n");
    workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--swaps"]).exited(0);
    workdir.put("eight_bits.wasm", FORGETFUL.wasm());
    let trace = trace_of(&workdir).replacen("-> 0x5", "-> 0x1", 1).replacen("0x5", "0x2", 1);
    workdir.put("traces/x.trace", trace);
    workdir.wasmsr(&["plugin", "test", "eight_bits.wasm"]).exited(0);
    let run = workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--swaps"]).exited(1);
    for part in ["with a swap after line 4", "- r 0x10 -> 0x2", "+ r 0x10 -> 0x1", "1 failed"] {
        assert!(run.stdout.contains(part), "{part}: {run}");
    }
    let json = workdir.wasmsr(&["plugin", "test", "eight_bits.wasm", "--swaps", "--json"]);
    let json: Value = serde_json::from_str(&json.exited(1).stdout).expect("it is JSON");
    assert_eq!(json.pointer("/tests/0/swap_after"), Some(&Value::from(4)), "{json}");
    Ok(())
}
