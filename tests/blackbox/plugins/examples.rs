//! Every profile in `examples/` is accepted, and runs its guest to the end.

use std::fs;

use libtest_mimic::Trial;

use crate::fixture::{
    EXAMPLES, Outcome, Running, Shell, Vm, apply, examples_with, guest_exit, require_kvm, test,
    trial, trials, wasmsr,
};

#[apply(trials)]
fn trials() -> Vec<Trial> {
    let each = |name: &'static str| {
        [
            trial(format!("plugins::examples::check_{name}"), move || check(name)),
            trial(format!("plugins::examples::run_{name}"), move || run(name)),
        ]
    };
    EXAMPLES.iter().map(|(name, _)| *name).chain(["c/vm"]).flat_map(each).collect()
}

/// Where a #GP is part of the example.
const MAY_FAULT: &[&str] = &["host-passthrough", "unknown-log", "value-template"];

#[apply(test)]
fn every_example_is_tested() -> Outcome {
    let entries = fs::read_dir(examples_with("hello/vm.toml")?).expect("a folder can be read");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.extension().is_some_and(|ending| ending == "toml"));
    for file in files {
        let name = file.file_stem().unwrap_or_default();
        let known = EXAMPLES.iter().any(|(known, _)| name == *known);
        assert!(known, "fixture/example.rs does not have {}", file.display());
    }
    Ok(())
}

#[apply(test)]
fn linux_boots_with_the_fleets_plugins() -> Outcome {
    let mut shell = Shell::of(Vm::example("fleet"))?;
    shell.ask("source", "cat /sys/devices/system/clocksource/clocksource0/current_clocksource");
    // IBRS_ALL in 0x10a has Linux write 0x48, which not every emulated CPU has.
    shell.ask("refused", "dmesg | grep 'unchecked MSR access' | grep -vc 'WRMSR to 0x48 '");
    shell.ask("cores", "rdmsr -a 0x35");
    shell.ask("first", "rdmsr -d 0x611");
    shell.ask("slept", "sleep 1; echo done");
    shell.ask("second", "rdmsr -d 0x611");
    shell.ask("vendor", "wrmsr 0x56440001 7; rdmsr 0x56440001");
    let run = shell.power_off();
    assert_eq!(run.answer("source"), "kvm-clock", "{run}");
    assert_eq!(run.answer("refused"), "0", "{run}");
    assert_eq!(run.answer("cores"), "20002 20002", "{run}");
    assert_eq!(run.answer("vendor"), "7", "{run}");
    let energy = |mark| run.answer(mark).parse::<u32>().expect("a counter is a number");
    assert_ne!(energy("first"), energy("second"), "no energy was used:\n{run}");
    // sampling-guard tells of its two registers, unknown-log of what else there was.
    run.said(&["sampling-guard", "VD_SCRATCH"]);
    Ok(())
}

fn check(name: &str) -> Outcome {
    let file = format!("{name}.toml");
    let run = Running::start(wasmsr(&["check", &file]).current_dir(examples_with(&file)?)).finish();
    run.exited(0);
    Ok(())
}

fn run(name: &str) -> Outcome {
    require_kvm()?;
    let file = format!("{name}.toml");
    let run = Running::start(wasmsr(&["run", &file]).current_dir(examples_with(&file)?)).finish();
    let run = run.exited(guest_exit(0));
    assert!(run.stdout.contains("msr 0x"), "the guest has met no MSR:\n{run}");
    assert!(!run.stdout.contains("#GP") || MAY_FAULT.contains(&name), "{run}");
    Ok(())
}
