//! `kvm-clock` as a stock Linux uses it: its clock source, which runs with the
//! host's clock and is one for all its CPUs.

use std::time::{SystemTime, UNIX_EPOCH};

use super::linux_clock;
use crate::fixture::{Outcome, Shell, Vm, apply, test};

/// Two CPUs, and the plugin, which bends the line often.
fn vm() -> Vm {
    let lines = "grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\nconfig.refresh-ms = 50";
    Vm::new().vcpus(2).memory("256MiB").shipped("kvm_clock", lines)
}

#[apply(test)]
fn it_is_the_clock_source() -> Outcome {
    let mut shell = Shell::of(vm())?;
    let sources = "/sys/devices/system/clocksource/clocksource0";
    shell.ask("source", &format!("cat {sources}/current_clocksource"));
    shell.ask("message", "dmesg | grep -o 'kvm-clock: Using msrs .*'");
    // All CPUs' registers have bit 0 set.
    let enabled = "for v in $(rdmsr -a $msr); do echo $((0x$v & 1)); done";
    shell.ask("time", &format!("msr=0x4b564d01; {enabled}"));
    shell.ask("steal", &format!("msr=0x4b564d03; {enabled}"));
    let run = shell.power_off();
    assert_eq!(run.answer("source"), "kvm-clock", "{run}");
    assert_eq!(run.answer("message"), "kvm-clock: Using msrs 4b564d01 and 4b564d00", "{run}");
    assert_eq!((run.answer("time"), run.answer("steal")), ("1 1", "1 1"), "{run}");
    // The table at the end says what answered: not KVM.
    for msr in ["0x4b564d00", "0x4b564d01", "0x4b564d03"] {
        let answered = |line: &str| line.starts_with(msr) && line.contains("kvm-clock");
        assert!(run.stderr.lines().any(answered), "{msr} is not the plugin's:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn its_date_is_the_hosts() -> Outcome {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut shell = Shell::of(vm())?;
    let before = seconds();
    shell.ask("date", "date +%s");
    let after = seconds();
    let run = shell.power_off();
    let date: u64 = run.answer("date").parse().expect("a date is a number");
    // The guest rounds down, and its clock is a line.
    assert!((before - 1..=after).contains(&date), "{before} <= {date} <= {after}:\n{run}");
    Ok(())
}

#[apply(test)]
fn it_runs_with_the_hosts_clock() -> Outcome {
    linux_clock::runs_with_the_hosts(vm())
}

#[apply(test)]
fn no_cpu_sees_it_go_back() -> Outcome {
    linux_clock::no_cpu_sees_it_go_back(vm())
}
