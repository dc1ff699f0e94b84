//! `wasmsr plugin bench` with built files: what it measures, and what it says of
//! plugins that do not simply answer.

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Run, Workdir, apply, test};

/// One MSR that is only read.
const READ: &str = r#"msr = [{ range = "0x10", access = "r" }]"#;

const ANSWERS: &str = "(reads (i64.const 5))";

/// The bench of a plugin, for programs.
fn bench(manifest: &'static str, code: &'static str) -> (Run, Vec<String>) {
    let run = workdir(manifest, code).wasmsr(&["plugin", "bench", "x.wasm", "--json"]);
    let report: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}:\n{run}"));
    let accesses = report.get("accesses").and_then(Value::as_array).expect("accesses");
    let answers = accesses.iter().filter_map(|access| Some(access.get("answer")?.as_str()?.into()));
    let answers = answers.collect();
    (run, answers)
}

fn workdir(manifest: &'static str, code: &'static str) -> Workdir {
    let workdir = Workdir::new();
    workdir.put("x.wasm", Plugin { name: "x", manifest, code }.wasm());
    workdir
}

#[apply(test)]
fn a_built_file_is_measured_too() -> Outcome {
    let run = workdir(READ, ANSWERS).wasmsr(&["plugin", "bench", "x.wasm"]).exited(0);
    let memory = "64.0 KiB per instance (1 pages), 64.0 KiB after the accesses, at most 1.0 MiB";
    assert!(run.stdout.contains(memory), "{run}");
    Ok(())
}

#[apply(test)]
fn a_plugin_that_fails_is_measured_as_failing() -> Outcome {
    let (run, answers) =
        bench(r#"msr = [{ range = "0x10" }]"#, "(reads (i64.const 5)) (writes unreachable)");
    assert_eq!(answers, ["value", "failed"], "{run}");
    run.exited(1).said(&["unreachable"]);
    Ok(())
}

#[apply(test)]
fn a_plugin_that_fails_late_is_failing_too() -> Outcome {
    let (run, answers) = bench(
        READ,
        "
        (global $reads (mut i32) (i32.const 0))
        (reads
            (global.set $reads (i32.add (global.get $reads) (i32.const 1)))
            (if (i32.gt_u (global.get $reads) (i32.const 100)) (then unreachable))
            (i64.const 5))",
    );
    assert_eq!(answers, ["failed"], "{run}");
    run.exited(1).said(&["unreachable"]);
    Ok(())
}

#[apply(test)]
fn a_plugin_that_answers_now_so_now_so() -> Outcome {
    let (run, answers) = bench(
        READ,
        r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (global $reads (mut i32) (i32.const 0))
        (reads
            (global.set $reads (i32.add (global.get $reads) (i32.const 1)))
            (if (i32.and (global.get $reads) (i32.const 1)) (then (call $outcome (i32.const 1))))
            (i64.const 5))"#,
    );
    assert_eq!(answers, ["mixed"], "{run}");
    run.exited(0);
    Ok(())
}

#[apply(test)]
fn a_plugin_that_passes_is_not_the_policy() -> Outcome {
    let (run, answers) = bench(
        READ,
        r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads (call $outcome (i32.const 2)) (i64.const 5))"#,
    );
    assert_eq!(answers, ["pass"], "{run}");
    run.exited(0);
    Ok(())
}

#[apply(test)]
fn memory_is_looked_at_after_the_accesses() -> Outcome {
    let workdir = workdir(
        READ,
        "
        (reads
            (if (i32.lt_u (memory.size) (i32.const 3))
                (then (drop (memory.grow (i32.const 2)))))
            (i64.const 5))",
    );
    let run = workdir.wasmsr(&["plugin", "bench", "x.wasm"]).exited(0);
    let memory = "64.0 KiB per instance (1 pages), 192.0 KiB after the accesses";
    assert!(run.stdout.contains(memory), "{run}");
    Ok(())
}

#[apply(test)]
fn a_plugin_for_what_is_unhandled() -> Outcome {
    let workdir = workdir(r#"unhandled.reasons = ["unknown"]"#, "(reads (i64.const 5)) (writes)");
    let run = workdir.wasmsr(&["plugin", "bench", "x.wasm"]).exited(0);
    for access in ["read, unknown", "write, unknown"] {
        let row = run.stdout.lines().find(|line| line.contains(access));
        assert!(
            row.is_some_and(|row| row.contains(" value ") || row.contains(" ok ")),
            "no `{access}`:\n{run}"
        );
    }
    Ok(())
}

#[apply(test)]
fn a_plugin_that_has_nothing_to_answer() -> Outcome {
    let listed = workdir(r#"msr = [{ config = "msrs", access = "r" }]"#, ANSWERS);
    let run = listed.wasmsr(&["plugin", "bench", "x.wasm"]).exited(2);
    run.said(&["claims no MSR", "--profile"]);
    Ok(())
}

#[apply(test)]
fn a_shadow_is_measured_alone() -> Outcome {
    let workdir = workdir(READ, ANSWERS);
    workdir.put("old.wasm", Plugin { name: "x", manifest: READ, code: ANSWERS }.wasm());
    workdir.put(
        "vm.toml",
        "boot.guest = \"hello\"\n[[plugin]]\npath = \"old.wasm\"\n\
         [[plugin]]\npath = \"x.wasm\"\nshadow-of = \"x\"\n",
    );
    let run = workdir.wasmsr(&["plugin", "bench", "x.wasm", "--profile", "vm.toml"]).exited(0);
    assert!(run.stdout.contains(" value "), "{run}");
    Ok(())
}

#[apply(test)]
fn a_plugin_that_needs_a_configuration() -> Outcome {
    let refuses = workdir(
        READ,
        r#"
        (func (export "init") (param i32) (result i32) (i32.const 1))
        (reads (i64.const 5))"#,
    );
    refuses.wasmsr(&["plugin", "bench", "x.wasm"]).exited(2).said(&["configuration", "--profile"]);
    Ok(())
}

#[apply(test)]
fn the_log_of_measured_instances_is_kept_out() -> Outcome {
    let (run, answers) = bench(
        READ,
        r#"
        (import "wasmsr" "log" (func $log (param i32 i32 i32)))
        (data (i32.const 0) "here I am")
        (func (export "init") (param i32) (result i32)
            (call $log (i32.const 2) (i32.const 0) (i32.const 9)) (i32.const 0))
        (reads (i64.const 5))"#,
    );
    assert_eq!(answers, ["value"], "{run}");
    assert_eq!(run.stderr.matches("here I am").count(), 1, "{run}");
    Ok(())
}

#[apply(test)]
fn msrs_that_are_left_out_are_counted() -> Outcome {
    let manifest =
        r#"msr = [{ range = "0x10-0x1f", access = "r" }, { range = "0x20", access = "r" }]"#;
    let run = workdir(manifest, ANSWERS).wasmsr(&["plugin", "bench", "x.wasm"]).exited(0);
    assert!(run.stdout.contains("and 13 more MSRs"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_profile_without_the_plugin() -> Outcome {
    let workdir = workdir(READ, ANSWERS);
    workdir.put("vm.toml", "[boot]\nguest = \"hello\"\n");
    let run = workdir.wasmsr(&["plugin", "bench", "x.wasm", "--profile", "vm.toml"]);
    run.refused(&["profile vm.toml", "x.wasm", "--profile"]);
    Ok(())
}
