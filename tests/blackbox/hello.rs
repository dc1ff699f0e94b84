//! The built-in guest and the first example.

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
    run.said(&["arch-capabilities", "vendor-range", "0x10a", "IA32_ARCH_CAPABILITIES"]);
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
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("measured.wasm", PLUGIN.wasm());
    let boot = format!("[boot]\nguest = \"hello\"\ncmdline = {cmdline:?}\n");
    workdir.put("vm.toml", format!("{boot}[[plugin]]\npath = \"measured.wasm\"\n"));
    Ok(Running::start(wasmsr(&["run", "vm.toml"]).current_dir(workdir.path())).finish())
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
fn a_command_line_that_is_not_one() -> Outcome {
    for (cmdline, wrong) in [
        ("10a", "`10a`"),
        ("0x10a=", "`0x10a=`"),
        ("0x10a=0x1,0x10a", "`0x10a=0x1,0x10a`"),
        ("0x10a read", "`read`"),
        ("0x10000000a", "`0x10000000a`"),
        ("0x10a=0x10000000000000000", "`0x10a=0x10000000000000000`"),
    ] {
        let run = hello(cmdline)?.exited(2).said(&["error: profile vm.toml: ", wrong]);
        assert_eq!(run.stdout, "", "nothing was started: {run}");
    }
    Ok(())
}

#[apply(test)]
fn check_tells_all_that_is_wrong_with_its_command_line() -> Outcome {
    let workdir = Workdir::new();
    let boot = "[boot]\nguest = \"hello\"\ncmdline = \"10a 266 0x10000000a 0x10a=\"\n";
    workdir.put("vm.toml", boot);
    let run = Running::start(wasmsr(&["check", "vm.toml"]).current_dir(workdir.path())).finish();
    let run = run.exited(2).said(&["`10a`", "`0x10000000a`", "`0x10a=`"]);
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
