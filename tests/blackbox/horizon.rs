//! Kernel shadows on a live guest, and `wasmsr horizon`: whether KVM could take over from a
//! plugin.

use std::fmt::Write as _;

use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Run, Skip, Vm, Workdir, apply, guest_exit, require_kvm, test,
};

/// IA32_PAT as every KVM has it after a reset.
const PAT: &str = "config.registers = [{ range = 0x277, value = \"0x0007040600070406\" }]";

/// With another value.
const OTHER_PAT: &str = "config.registers = [{ range = 0x277, value = 0x06 }]";

const SHADOW: &str = "[[plugin]]\nshadow-of = \"registers\"\nkernel = true";

const SCRIPT: &str = "
    r 277                  -> 7040600070406
    w 277 606060606060606  -> ok
    r 277                  -> 606060606060606
    w 277 7040600070406    -> ok
    r 277                  -> 7040600070406
";

/// Accesses, other answers, other effects, unclaimed, failures.
#[track_caller]
fn row(run: &Run, of: &str, counts: [&str; 5]) {
    let fits = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&"kernel")
            && words.get(2) == Some(&of)
            && words.get(3..8) == Some(&counts)
    };
    assert!(run.stderr.lines().any(fits), "no row with {counts:?}:\n{run}");
}

fn horizon(workdir: &Workdir, arguments: &[&str]) -> Result<Run, Skip> {
    require_kvm()?;
    Ok(workdir.wasmsr(&[&["horizon"], arguments].concat()))
}

#[apply(test)]
fn a_sequence_of_writes_is_followed_though_kvm_gets_none() -> Outcome {
    let run = Vm::new().shipped("registers", PAT).tables(SHADOW).run(SCRIPT)?;
    let run = run.printed(SCRIPT).exited(guest_exit(0));
    row(&run, "registers", ["5", "0", "0", "0", "0"]);
    assert!(!run.stderr.contains("differs"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_difference_is_told_and_the_guest_sees_the_plugins_answer() -> Outcome {
    let script = "r 277 -> 6";
    let run = Vm::new().shipped("registers", OTHER_PAT).tables(SHADOW).run(script)?;
    let run = run.printed(script).exited(guest_exit(0));
    row(&run, "registers", ["1", "1", "0", "0", "0"]);
    run.said(&["KVM differs from plugin registers: read of 0x277 (IA32_PAT) on vCPU 0: 0x6; \
         KVM: 0x7040600070406"]);
    Ok(())
}

#[apply(test)]
fn nothing_of_the_guest_changes() -> Outcome {
    // The plugin answers reads; writes are KVM's own, and show in its own value.
    let plugin = Plugin {
        name: "registers",
        manifest: "msr = [{ range = \"0x277\", access = \"w\" }]",
        code: "(writes)",
    };
    let script = "
        w 277 606060606060606 -> ok
        r 277                 -> 7040600070406
    ";
    let run = Vm::new().plugin(&plugin).tables(SHADOW).run(script)?;
    let run = run.printed(script).exited(guest_exit(0));
    row(&run, "registers", ["1", "0", "0", "0", "0"]);
    Ok(())
}

#[apply(test)]
fn what_is_no_question_for_kvm_is_counted() -> Outcome {
    let plugin = Plugin {
        name: "registers",
        manifest: "msr = [{ range = \"0x10\", access = \"r\" }, { range = \"0x1000\" }]",
        code: r#"(reads (if (i32.eq (local.get $msr) (i32.const 0x1000)) (then unreachable))
                        (i64.const 5))
                 (writes unreachable)"#,
    };
    let script = "
        r 10     -> 5
        r 1000   -> fault
        w 1000 1 -> fault
    ";
    let run = Vm::new().plugin(&plugin).tables(SHADOW).run(script)?;
    let run = run.printed(script).exited(guest_exit(0));
    row(&run, "registers", ["0", "0", "0", "0", "2"]);
    run.said(&["(of registers): 3 accesses were not compared"]);
    Ok(())
}

#[apply(test)]
fn a_guest_that_writes_5000_msrs_stays_within_the_bounds() -> Outcome {
    let plugin = Plugin {
        name: "registers",
        manifest: "msr = [{ range = \"0x10000-0x11387\" }]",
        code: "(reads (i64.const 0)) (writes)",
    };
    let mut script = String::new();
    for msr in 0x10000..0x11388 {
        let _ = writeln!(script, "w {msr:x} 1 -> ok");
    }
    let vm = Vm::new().plugin(&plugin).tables(SHADOW).arguments(&["--summary", "s.json"]);
    let (workdir, running) = vm.start(&script)?;
    let run = running.finish().exited(guest_exit(0));
    row(&run, "registers", ["5000", "5000", "0", "0", "0"]);
    let told = run.stderr.matches("KVM differs from plugin").count();
    assert_eq!(told, 16, "{run}");
    let text = std::fs::read_to_string(workdir.path().join("s.json")).expect("it is written");
    let summary: Value = serde_json::from_str(&text).expect("JSON");
    let rows = summary["shadows"][0]["msrs"].as_array().map(Vec::len);
    assert_eq!(rows, Some(1024), "{} bytes", text.len());
    Ok(())
}

#[apply(test)]
fn a_recorded_run_with_a_kernel_shadow_can_be_replayed() -> Outcome {
    let vm = Vm::new().shipped("registers", PAT).tables(SHADOW);
    let (workdir, running) = vm.arguments(&["--record", "r.jsonl"]).start(SCRIPT)?;
    let run = running.finish().printed(SCRIPT).exited(guest_exit(0));
    row(&run, "registers", ["5", "0", "0", "0", "0"]);
    let text = std::fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is written");
    assert!(!text.contains("kvm_rdmsr") && !text.contains("kvm_wrmsr"), "{text}");
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);

    let told = horizon(&workdir, &["--recording", "r.jsonl"])?.exited(0);
    assert!(told.stdout.contains("yes: 5 accesses (recording)"), "{told}");
    assert!(told.stdout.contains("evidence: recording r.jsonl"), "{told}");
    Ok(())
}

#[apply(test)]
fn check_shows_it_and_mistakes_are_refused() -> Outcome {
    let vm = Vm::new().shipped("registers", PAT).tables(SHADOW);
    let workdir = vm.on_disk(SCRIPT)?;
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("plugin registers has a kernel shadow"), "{run}");
    for (tables, part) in [
        ("[[plugin]]\nkernel = true", "`kernel = true` needs `shadow-of`"),
        (&format!("{SHADOW}\nfuel = 5"), "`fuel` says nothing where `kernel = true`"),
        (&format!("{SHADOW}\n{SHADOW}"), "`registers` has a kernel shadow already"),
        ("[[plugin]]\nshadow-of = \"regs\"\nkernel = true", "names no plugin of this profile"),
    ] {
        let workdir = Vm::new().shipped("registers", PAT).tables(tables).on_disk(SCRIPT)?;
        workdir.wasmsr(&["check", "vm.toml"]).refused(&[part]);
    }
    Ok(())
}

#[apply(test)]
fn a_plugin_that_answers_as_kvm_does_can_be_handed_over() -> Outcome {
    let workdir = Vm::new().shipped("registers", PAT).on_disk(SCRIPT)?;
    let run = horizon(&workdir, &["vm.toml"])?.exited(0);
    assert!(run.stdout.starts_with("on this host, kernel "), "{run}");
    assert!(run.stdout.contains("plugin registers can be handed over"), "{run}");
    let json = horizon(&workdir, &["vm.toml", "--json"])?.exited(0);
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let kernel = report["host_kernel"].as_str().expect("a version");
    assert_eq!(report["plugins"][0]["kernel_from"], kernel, "{report:#}");
    let claim = &report["claims"][0];
    assert_eq!((&claim["compared"], &claim["different"]), (&2.into(), &0.into()), "{report:#}");
    assert_eq!(claim["kvm_since"], Value::Null, "never guessed: {report:#}");

    // The line that it proposes does hand it over.
    let line = format!("{PAT}\nkernel-from = \"{kernel}\"");
    let workdir = Vm::new().shipped("registers", &line).on_disk(SCRIPT)?;
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("plugin registers yields its MSRs"), "{run}");
    horizon(&workdir, &["vm.toml"])?.exited(0);
    Ok(())
}

#[apply(test)]
fn what_holds_a_plugin_back_is_told() -> Outcome {
    let hides = Plugin {
        name: "hides",
        manifest: "msr = [{ range = \"0x277\", access = \"r\" }]",
        code: r#"(import "wasmsr" "outcome" (func $outcome (param i32)))
                 (reads (call $outcome (i32.const 1)) (i64.const 0))"#,
    };
    let unknown = Plugin {
        name: "unknown",
        manifest: "msr = [{ range = \"0x12345\", access = \"r\" }]",
        code: "(reads (i64.const 5))",
    };
    let clock = Plugin {
        name: "clock",
        manifest: "msr = [{ range = \"0x10\", access = \"r\" }]",
        code: "(reads (i64.const 5))",
    };
    for (plugin, parts) in [
        (&hides, ["KVM answers otherwise for 1 MSR", "read: fault; KVM: 0x7040600070406"]),
        (&unknown, ["KVM does not know 1 MSR of it", "0x12345: KVM does not know it"]),
        (&clock, ["1 answer cannot be compared", "not comparable"]),
    ] {
        let workdir = Vm::new().plugin(plugin).on_disk(SCRIPT)?;
        let run = horizon(&workdir, &["vm.toml"])?.exited(1);
        for part in parts {
            assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
        }
        assert!(!run.stdout.contains("kernel-from ="), "{run}");
    }
    Ok(())
}

#[apply(test)]
fn bad_input_is_refused() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "[[plugin]]\npath = \"none.wasm\"\n");
    horizon(&workdir, &["vm.toml"])?.refused(&["none.wasm"]);
    workdir.put("r.jsonl", "{}\n");
    horizon(&workdir, &["--recording", "r.jsonl"])?.exited(2);
    horizon(&workdir, &["--recording", "r.jsonl", "vm.toml"])?.exited(2);
    Ok(())
}
