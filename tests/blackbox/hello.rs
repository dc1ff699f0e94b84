//! The built-in guest and the first example.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::{
    Outcome, Plugin, Run, Running, Skip, Vm, Workdir, apply, examples_with, guest_exit,
    require_kvm, test, wasmsr,
};

#[apply(test)]
fn the_first_example() -> Outcome {
    require_kvm()?;
    let examples = examples_with("hello/vm.toml")?.join("hello");
    let run = Running::start(wasmsr(&["run", "vm.toml"]).current_dir(examples)).finish();
    assert!(run.code.is_some_and(|code| code & 1 == 1), "the exit code is not the guest's:\n{run}");
    assert!(run.stdout.contains("#GP"), "{run}");
    run.said(&["arch-capabilities", "registers", "0x10a", "IA32_ARCH_CAPABILITIES"]);
    Ok(())
}

/// Answers reads, and refuses writes.
const PLUGIN: Plugin = Plugin {
    name: "measured",
    manifest: r#"msr = [{ range = "0x10a" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads (i64.const 0x2b))
        (writes (call $outcome (i32.const 1)))"#,
};

/// Runs the built-in guest with this command line.
fn hello(cmdline: &str) -> Result<Run, Skip> {
    Ok(start_hello(1, cmdline)?.1.finish())
}

/// Starts the built-in guest with so many vCPUs and this command line.
fn start_hello(vcpus: u32, cmdline: &str) -> Result<(Workdir, Running), Skip> {
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("measured.wasm", PLUGIN.wasm());
    let vm = format!("[vm]\nvcpus = {vcpus}\n[boot]\nguest = \"hello\"\ncmdline = {cmdline:?}\n");
    workdir.put("vm.toml", format!("{vm}[[plugin]]\npath = \"measured.wasm\"\n"));
    let run = ["run", "vm.toml", "--max-boots", "2"];
    let running = Running::start(wasmsr(&run).current_dir(workdir.path()));
    Ok((workdir, running))
}

#[apply(test)]
fn accesses_of_its_command_line() -> Outcome {
    let run = hello("0x10a 0x10A=0x1  0x10a")?.exited(guest_exit(0));
    let lines: Vec<&str> = run.stdout.lines().map(str::trim).collect();
    let value = "rdmsr 0x0000010a = 0x000000000000002b";
    let fault = "wrmsr 0x0000010a = 0x0000000000000001: #GP";
    assert_eq!(lines, [value, fault, value], "{run}");
    Ok(())
}

#[apply(test)]
fn decimals_on_its_command_line() -> Outcome {
    let run = hello("266 266=43")?.exited(guest_exit(0));
    assert!(run.stdout.contains("rdmsr 0x0000010a = 0x000000000000002b"), "{run}");
    assert!(run.stdout.contains("wrmsr 0x0000010a = 0x000000000000002b: #GP"), "{run}");
    Ok(())
}

#[apply(test)]
fn it_repeats() -> Outcome {
    let run = hello("repeat 2 0x10a repeat 3 0x10a=1 end end 0x10a=2")?.exited(guest_exit(0));
    let order: String = run.stdout.lines().filter_map(|line| line.trim().chars().next()).collect();
    assert_eq!(order, "rwwwrwwww", "{run}");
    Ok(())
}

#[apply(test)]
fn it_waits() -> Outcome {
    let (_workdir, mut running) = start_hello(1, "0x10a wait 300 0x10a")?;
    running.wait_for("rdmsr");
    let read = Instant::now();
    running.wait_for_many("rdmsr", 2);
    // The first line was seen a little after it was printed.
    assert!(read.elapsed() > Duration::from_millis(200));
    running.finish().exited(guest_exit(0));
    Ok(())
}

#[apply(test)]
fn it_counts_in_place_of_printing() -> Outcome {
    let line = "quiet repeat 10 repeat 5 0x10a end 0x10a=1 end loud 0x10a";
    let run = hello(line)?.exited(guest_exit(0));
    let [counts, read] = run.stdout.lines().collect::<Vec<_>>()[..] else {
        panic!("not two lines:\n{run}");
    };
    let begin = "  50 reads, 10 writes, 10 #GPs; cycles from read to read: 99 % within ";
    let cycles = counts.strip_prefix(begin).and_then(|cycles| cycles.split_once(", longest "));
    let numbers = cycles.and_then(|(usual, longest)| {
        Some((usual.parse::<u64>().ok()?, longest.parse::<u64>().ok()?))
    });
    // A bucket ends an eighth above its beginning at most.
    assert!(numbers.is_some_and(|(usual, longest)| usual <= longest + longest / 8 + 1), "{run}");
    assert!(read.contains("rdmsr"), "{run}");
    Ok(())
}

#[apply(test)]
fn sections_of_vcpus_are_done_at_the_same_time() -> Outcome {
    // None of the first three ends.
    let line = "0x10a cpu 0-1 repeat forever 0x10a wait 1 end cpu 3 repeat forever 0x10a wait 1";
    let (_workdir, mut running) = start_hello(4, line)?;
    for vcpu in [0, 1, 3] {
        running.wait_for_many(&format!("\nvCPU {vcpu}: rdmsr 0x0000010a = 0x"), 3);
    }
    running.send(Signal::TERM);
    let run = running.finish().exited(143);
    assert!(run.stdout.starts_with("vCPU 0: ") && !run.stdout.contains("vCPU 2"), "{run}");
    // The end may come within a line.
    let lines = run.stdout.lines().count() - 1;
    let whole = |line: &str| line.ends_with("rdmsr 0x0000010a = 0x000000000000002b");
    assert!(run.stdout.lines().take(lines).all(whole), "{run}");
    Ok(())
}

#[apply(test)]
fn it_ends_when_all_sections_have() -> Outcome {
    let (_workdir, running) = start_hello(3, "cpu all quiet repeat 100 0x10a end 0x10a=1")?;
    let run = running.finish().exited(guest_exit(0));
    for vcpu in 0..3 {
        let begin = format!("vCPU {vcpu}: 100 reads, 0 writes, 0 #GPs; ");
        assert!(run.stdout.contains(&begin), "{run}");
    }
    assert_eq!(run.stdout.lines().count(), 3, "{run}");
    Ok(())
}

#[apply(test)]
fn a_reset_does_the_line_again() -> Outcome {
    let run = hello("0x10a reset")?.exited(14);
    assert_eq!(run.stdout.matches("rdmsr").count(), 2, "{run}");
    Ok(())
}

#[apply(test)]
fn what_it_repeats_forever_can_be_ended() -> Outcome {
    for line in ["0x10a quiet repeat forever 0x10a", "0x10a repeat forever wait 3600000"] {
        let (_workdir, mut running) = start_hello(1, line)?;
        running.wait_for("rdmsr");
        running.send(Signal::INT);
        running.finish().exited(130);
    }
    Ok(())
}

#[apply(test)]
fn a_command_line_that_is_not_one() -> Outcome {
    for (cmdline, wrong) in [
        ("10a", "`10a`"),
        ("0x10a=", "`0x10a=`"),
        ("0x10a=0x1,0x10a", "`0x10a=0x1,0x10a`"),
        ("0x10a read", "`read`"),
        ("0x10000000a", "`0x10000000a`"),
        ("0x10a=0x10000000000000000", "`0x10a=0x10000000000000000`"),
        ("repeat 0x10a", "`repeat 0x10a`"),
        ("wait 3600001", "`wait 3600001`"),
        ("cpu 1 0x10a", "`cpu 1`"),
    ] {
        let run = hello(cmdline)?.exited(2).said(&["error: profile vm.toml: ", wrong]);
        assert_eq!(run.stdout, "", "nothing was started: {run}");
    }
    Ok(())
}

#[apply(test)]
fn check_tells_all_that_is_wrong_with_its_command_line() -> Outcome {
    let workdir = Workdir::new();
    let boot = "[boot]\nguest = \"hello\"\ncmdline = \"10a 266 0x10000000a 0x10a= wait x end\"\n";
    workdir.put("vm.toml", boot);
    let run = Running::start(wasmsr(&["check", "vm.toml"]).current_dir(workdir.path())).finish();
    let run = run.exited(2).said(&["`10a`", "`0x10000000a`", "`0x10a=`", "`wait x`", "`end`"]);
    assert!(!run.stderr.contains("`266`"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_table_after_the_run() -> Outcome {
    let run = Vm::new().plugin(&PLUGIN).run("times 11 r 10a \n times 7 w 10a 1")?;
    let row = run.stderr.lines().find(|line| line.contains("0x10a")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().collect();
    for cell in ["0x10a", "IA32_ARCH_CAPABILITIES", "measured", "17", "7"] {
        assert!(cells.contains(&cell), "no `{cell}` in the row of 0x10a:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn the_table_has_no_empty_rows() -> Outcome {
    let offered = Plugin {
        name: "offered",
        manifest: r#"
            msr = [{ range = "0x1000-0x10ff" }]
            unhandled.reasons = ["unknown"]"#,
        ..PLUGIN
    };
    let run = Vm::new().plugin(&offered).run("r deadbeef")?;
    let rows: Vec<_> = run.stderr.lines().filter(|line| line.trim().starts_with("0x")).collect();
    let alone = matches!(rows.as_slice(), [row] if row.contains("offered"));
    assert!(alone, "rows for accesses that never were:\n{run}");
    Ok(())
}

#[apply(test)]
fn nothing_but_the_guest_on_standard_output() -> Outcome {
    let run = Vm::new().plugin(&PLUGIN).run("r 10a")?.exited(guest_exit(0));
    assert_eq!(run.stdout, "r 10a -> 2b\n", "{run}");
    Ok(())
}
