//! `shadow-of`: a candidate beside the plugin in charge, on a live guest.

use crate::fixture::{Outcome, Plugin, Run, Shell, Vm, apply, guest_exit, test};

const IN_CHARGE: Plugin = Plugin {
    name: "model",
    manifest: r#"msr = [{ range = "0x1000-0x1002", access = "rw" }]"#,
    code: r#"
        (import "wasmsr" "monotonic_ns" (func $ns (result i64)))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1001)) (then (return (call $ns))))
            (i64.const 5))
        (writes)
    "#,
};

const SCRIPT: &str = "
    r 1000   -> 5
    r 1001   -> ?
    w 1000 1 -> ok
    r 1002   -> 5
    r 1001   -> ?
";

/// The script with a candidate in `s.wasm`.
fn with_candidate(code: &'static str, keys: &str) -> Result<Run, crate::fixture::Skip> {
    let candidate = Plugin { name: "candidate", manifest: IN_CHARGE.manifest, code };
    let keys = format!("shadow-of = \"model\"\n{keys}");
    let run = Vm::new().plugin(&IN_CHARGE).plugin_with(&candidate, &keys).run(SCRIPT)?;
    Ok(run.printed(SCRIPT).exited(guest_exit(0)))
}

/// Accesses, other answers, other effects, unclaimed, failures.
#[track_caller]
fn row(run: &Run, counts: [&str; 5]) {
    let fits = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(..3) == Some(&["candidate", "1.0.0", "model"]) && words.get(3..8) == Some(&counts)
    };
    assert!(run.stderr.lines().any(fits), "no row with {counts:?}:\n{run}");
}

#[apply(test)]
fn a_candidate_of_the_same_code_shows_no_difference() -> Outcome {
    let run = with_candidate(IN_CHARGE.code, "")?;
    row(&run, ["5", "0", "0", "0", "0"]);
    assert!(!run.stderr.contains("differs"), "{run}");
    Ok(())
}

#[apply(test)]
fn differences_are_reported_and_the_guest_sees_none() -> Outcome {
    let run = with_candidate(
        r#"(import "wasmsr" "outcome" (func $outcome (param i32)))
           (reads (i64.const 6))
           (writes (call $outcome (i32.const 1)))"#,
        "",
    )?;
    row(&run, ["5", "5", "0", "0", "0"]);
    run.said(&[
        "plugin candidate 1.0.0 (shadow of model) differs: read of 0x1000 on vCPU 0: 0x5; \
         the shadow: 0x6",
        "write of 0x1 to 0x1000 on vCPU 0: ok; the shadow: fault",
    ]);
    Ok(())
}

#[apply(test)]
fn a_candidate_that_fails_does_no_harm() -> Outcome {
    let run = with_candidate("(reads unreachable) (writes (loop (br 0)))", "")?;
    row(&run, ["5", "5", "0", "0", "5"]);
    run.said(&["plugin candidate 1.0.0 (shadow of model) failed", "the guest does not notice"]);
    Ok(())
}

#[apply(test)]
fn a_candidate_that_does_not_start_is_left_out() -> Outcome {
    let code = r#"
        (func (export "init") (param i32) (result i32) (i32.const 1))
        (reads (i64.const 5))
        (writes)"#;
    let run = with_candidate(code, "")?;
    row(&run, ["0", "0", "0", "0", "1"]);
    run.said(&["`init` returned 1", "the VM runs without this shadow", "it did not start: "]);

    let candidate = Plugin { name: "candidate", manifest: IN_CHARGE.manifest, code };
    let vm = Vm::new().plugin(&IN_CHARGE).plugin_with(&candidate, "shadow-of = \"model\"");
    let check = vm.on_disk(SCRIPT)?.wasmsr(&["check", "vm.toml"]);
    check.refused(&["candidate.wasm", "`init` returned 1"]);
    Ok(())
}

#[apply(test)]
fn what_a_candidate_costs_is_shown_in_fuel() -> Outcome {
    let run = with_candidate(
        "(reads (local $left i32)
               (local.set $left (i32.const 1000))
               (loop $next
                   (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                   (br_if $next (local.get $left)))
               (i64.const 5))
           (writes)",
        "",
    )?;
    let mut rows = run.stderr.lines().skip_while(|line| !line.starts_with("SHADOW"));
    let head = rows.next().unwrap_or_default();
    assert!(head.ends_with("FUEL  IN CHARGE  TIME ADDED"), "{run}");
    let words: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().collect();
    let fuel = |word: usize| words.get(word).and_then(|fuel| fuel.parse::<u64>().ok());
    let (candidate, in_charge) = (fuel(8).expect("fuel"), fuel(9).expect("fuel"));
    assert!(candidate > 4_000 && in_charge < 100, "{run}");
    Ok(())
}

#[apply(test)]
fn a_candidate_writes_nothing() -> Outcome {
    let candidate = Plugin {
        name: "candidate",
        manifest: "msr = [{ range = \"0x1000-0x1002\", access = \"rw\" }]\n\
                   [needs]\ncapabilities = [\"guest-memory\", \"kvm-msr\"]",
        // Would write over the guest from end to end, and set KVM's counter.
        code: r#"
            (import "wasmsr" "guest_write" (func $write (param i64 i32 i32) (result i32)))
            (import "wasmsr" "kvm_wrmsr" (func $kvm (param i32 i64) (result i32)))
            (reads (local $gpa i64)
                (drop (call $kvm (i32.const 0x4b564d00) (i64.const -1)))
                (loop $next
                    (drop (call $write (local.get $gpa) (i32.const 0) (i32.const 65536)))
                    (local.set $gpa (i64.add (local.get $gpa) (i64.const 65536)))
                    (br_if $next (i64.lt_u (local.get $gpa) (i64.const 0x8000000))))
                (i64.const 5))
            (writes)
        "#,
    };
    let keys = "shadow-of = \"model\"\ngrant = [\"guest-memory\", \"kvm-msr\"]\nfuel = 1000000000";
    let run = Vm::new().plugin(&IN_CHARGE).plugin_with(&candidate, keys).run(SCRIPT)?;
    let run = run.printed(SCRIPT).exited(guest_exit(0));
    // The two reads of the clock differ as well.
    row(&run, ["5", "2", "2", "0", "0"]);
    run.said(&["changed nothing; the shadow: set KVM's 0x4b564d00"]);
    Ok(())
}

#[apply(test)]
fn what_says_nothing_for_a_shadow_is_refused() -> Outcome {
    for (key, value) in
        [("fallback", "true"), ("on-failure", "\"stop\""), ("kernel-from", "\"6.1\"")]
    {
        let keys = format!("shadow-of = \"model\"\n{key} = {value}");
        let vm = Vm::new().plugin(&IN_CHARGE).plugin_with(&IN_CHARGE, &keys);
        let part = format!("`{key}` says nothing for a shadow");
        vm.run(SCRIPT)?.refused(&["model.wasm", &part]);
    }
    Ok(())
}

#[apply(test)]
fn a_shadow_of_no_plugin_is_refused() -> Outcome {
    let vm = Vm::new().plugin_with(&IN_CHARGE, "shadow-of = \"modle\"");
    let said = &["model.wasm", "`shadow-of = \"modle\"` names no plugin of this profile"];
    vm.run(SCRIPT)?.refused(said);
    Ok(())
}

#[apply(test)]
fn check_shows_shadows() -> Outcome {
    let candidate = Plugin { name: "candidate", ..IN_CHARGE };
    let vm = Vm::new().plugin(&IN_CHARGE).plugin_with(&candidate, "shadow-of = \"model\"");
    let workdir = vm.on_disk(SCRIPT)?;
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("candidate (shadow of model)"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_clock_is_shadowed_under_linux() -> Outcome {
    let grant = "grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\nconfig.refresh-ms = 50";
    let vm = Vm::new().vcpus(2).memory("256MiB").shipped("kvm_clock", grant);
    let vm =
        vm.shipped_as("kvm_clock", "candidate", &format!("{grant}\nshadow-of = \"kvm-clock\""));
    let mut shell = Shell::of(vm)?;
    shell.ask("source", "cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
    let run = shell.power_off();
    assert_eq!(run.answer("source"), "kvm-clock", "{run}");
    let mut head = run.stderr.lines().skip_while(|line| !line.starts_with("SHADOW"));
    let words: Vec<&str> = head.nth(1).unwrap_or_default().split_whitespace().collect();
    assert!(words.get(3).is_some_and(|accesses| *accesses != "0"), "{run}");
    assert_eq!(words.get(4..8), Some(&["0", "0", "0", "0"][..]), "{run}");
    Ok(())
}
