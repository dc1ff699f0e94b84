//! `hyperv-clock` as a stock Linux uses it: it finds Hyper-V, and has its time
//! from the reference TSC page.

use super::linux_clock;
use crate::fixture::{Outcome, Shell, Vm, apply, test};

/// Two CPUs, and the plugin, which renews the page often.
fn vm() -> Vm {
    let lines = "grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\nconfig.refresh-ms = 50";
    Vm::new().vcpus(2).memory("256MiB").shipped("hyperv_clock", lines)
}

#[apply(test)]
fn it_finds_hyper_v() -> Outcome {
    let mut shell = Shell::of(vm())?;
    shell.ask("found", "dmesg | grep -o 'Hypervisor detected: .*'");
    shell.ask("privileges", "dmesg | grep -o 'privilege flags .*'");
    shell.ask("build", "dmesg | grep -o 'Hyper-V: Host Build .*'");
    let sources = "/sys/devices/system/clocksource/clocksource0";
    shell.ask("source", &format!("cat {sources}/current_clocksource"));
    shell.ask("refused", "dmesg | grep -c 'unchecked MSR access'");
    shell.ask("complaints", "dmesg | grep -c 'Hyper-V.*not available'");
    shell.ask("identity", "rdmsr 0x40000000");
    shell.ask("indices", "rdmsr -a 0x40000002");
    // Hypercall page, reference TSC page, and every CPU's assist page.
    let enabled = "for v in $(rdmsr -a $msr); do echo $((0x$v & 1)); done";
    for (mark, msr) in [("code", 0x4000_0001), ("page", 0x4000_0021), ("assist", 0x4000_0073)] {
        shell.ask(mark, &format!("msr={msr:#x}; {enabled}"));
    }
    let run = shell.power_off();
    assert_eq!(run.answer("found"), "Hypervisor detected: Microsoft Hyper-V", "{run}");
    let privileges = "privilege flags low 0xa63, high 0x0, hints 0x20, misc 0x40500";
    assert_eq!(run.answer("privileges"), privileges, "{run}");
    assert_eq!(run.answer("build"), "Hyper-V: Host Build 10.0.14393.0-0-0", "{run}");
    assert_eq!(run.answer("source"), "hyperv_clocksource_tsc_page", "{run}");
    assert_eq!((run.answer("refused"), run.answer("complaints")), ("0", "0"), "{run}");
    // Linux, an open source OS.
    assert!(run.answer("identity").starts_with("8100"), "{run}");
    assert_eq!(run.answer("indices"), "0 1", "{run}");
    for mark in ["code", "page", "assist"] {
        assert_eq!(run.answer(mark), "1 1", "{mark}:\n{run}");
    }
    // The table at the end says what answered: not KVM.
    for msr in ["0x40000000", "0x40000001", "0x40000021", "0x40000022", "0x40000073"] {
        let answered = |line: &str| line.starts_with(msr) && line.contains("hyperv-clock");
        assert!(run.stderr.lines().any(answered), "{msr} is not the plugin's:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn time_runs_with_the_hosts_clock() -> Outcome {
    linux_clock::runs_with_the_hosts(vm())
}

#[apply(test)]
fn no_cpu_sees_time_go_back() -> Outcome {
    linux_clock::no_cpu_sees_it_go_back(vm())
}

#[apply(test)]
fn a_panic_is_reported_with_the_kernels_log() -> Outcome {
    let (_workdir, mut running) = vm().arguments(&["--on-reboot", "exit"]).start_linux()?;
    running.wait_for("built-in shell");
    running.type_in("echo c >/proc/sysrq-trigger\n");
    running.wait_for("Kernel panic - not syncing");
    let run = running.finish().exited(14).said(&["the guest reports a crash: P0 0x0 "]);
    let pieces = run.stderr.lines().filter_map(|line| line.split_once("hyperv-clock: crash: "));
    let log: String = pieces.map(|(_, piece)| piece).collect();
    let panic = "Kernel panic - not syncing: sysrq triggered crash|";
    assert!(log.contains(panic) && log.contains("Kernel Offset"), "{log}\n{run}");
    assert!(!run.stdout.contains("unchecked MSR access"), "{run}");
    Ok(())
}
