//! `frequency`: what a guest reads of its speed and its temperature.

use super::processors::XEON;
use crate::fixture::{Outcome, Shell, Vm, apply, guest_exit, test};

const INTEL: &str =
    "config = { vendor = \"intel\", hwp = true, base-mhz = 2400, turbo-mhz = [3600] }";

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("frequency").prints(
        "
        r 1ad      -> 2121212121222324
        r 198      -> 1800
        w 199 2400 -> ok
        r 199      -> 2400
        # Both cores may be busy.
        r 198      -> 2300
        r 19c      -> 88370000
        w 19c 0    -> ok
        r 1a2      -> 640000
        r 1b0      -> 6
        w 1ad 0    -> fault
        w 770 1    -> ok
        r 771      -> 8081824
        r 774      -> 8000ff01
        # A core has these registers for itself.
        cpu 1      -> ok
        r 199      -> 1800
        r 770      -> 0
        ",
    )
}

/// The bits of leaf 6 as the SDM (volume 2, CPUID) has them.
#[apply(test)]
fn cpuid_announces_what_the_vendor_has() -> Outcome {
    Vm::new().shipped("frequency", INTEL).prints(
        "
        cpuid 6 0 c 0 -> 1
        cpuid 6 0 c 3 -> 1
        cpuid 6 0 a 1 -> 1
        cpuid 6 0 a 7 -> 1
        cpuid 1 0 c 7 -> 1
        ",
    )?;
    let amd = "config = { vendor = \"amd\", base-mhz = 2000, cppc = true }";
    Vm::new().shipped("frequency", amd).prints(
        "
        cpuid 6 0 c 0         -> 1
        cpuid 6 0 a 7         -> 0
        cpuid 80000007 0 d 7  -> 1
        cpuid 80000008 0 b 1b -> 1
        r c0010061            -> 10
        r c0010064            -> 8000000000000850
        r c00102b0            -> ffff6666
        ",
    )
}

#[apply(test)]
fn counters_advance_together() -> Outcome {
    let run = Vm::new()
        .shipped("frequency", INTEL)
        .run("w 199 0c00 \n w e7 0 \n w e8 0 \n times 1000 r 1b0 \n r e8 \n r e7")?
        .exited(guest_exit(0));
    let read = |msr: &str| {
        let read = format!("r {msr} -> ");
        let hex = run.stdout.lines().filter_map(|line| line.split(&read).nth(1)).next_back();
        u64::from_str_radix(hex.expect("it was read"), 16).expect("a number")
    };
    let (aperf, mperf) = (read("e8"), read("e7"));
    // At half of the base frequency.
    assert!(aperf > 0 && aperf < mperf && mperf < 3 * aperf, "{aperf} {mperf}\n{run}");
    Ok(())
}

#[apply(test)]
fn a_wrong_configuration() -> Outcome {
    let refused = |config: &str, parts: &[&str]| -> Outcome {
        Vm::new().shipped("frequency", config).run("r e7")?.refused(parts);
        Ok(())
    };
    refused("", &["`vendor`"])?;
    refused("config = { vendor = \"intel\", base-mhz = 0 }", &["`base-mhz`", "100 to 25500"])?;
    refused("config = { vendor = \"intel\", cppc = true }", &["`cppc`", "amd"])
}

/// Whatever turbostat reads of a Xeon, whose turbo Linux reads for its scheduler.
fn server() -> Vm {
    let idle = include_str!("../../../examples/registers/idle.toml");
    let (_, idle) = idle.split_once("config.registers").expect("an example has a list");
    Vm::new()
        .vcpus(2)
        .memory("256MiB")
        .plugin(&XEON)
        .shipped("topology", "grant = [\"kvm-msr\"]\nconfig = { max-ratio = 24, min-ratio = 8 }")
        .shipped(
            "frequency",
            "config = { vendor = \"intel\", base-mhz = 2400, turbo-mhz = [3600, 3300], turbo-cores = [1, 20], \
             highest-temperature = 95, temperature = 50 }",
        )
        .shipped("rapl", "config.model.package = { idle-mw = 12000, vcpu-mw = 8000 }
                          config.model.dram = { idle-mw = 2000, vcpu-mw = 500 }")
        .shipped("registers", &format!("config.registers{idle}"))
}

#[apply(test)]
fn linux_and_turbostat_find_all_that_they_read() -> Outcome {
    let mut shell = Shell::of(server())?;
    // IA32_SPEC_CTRL is another matter: not every emulated CPU has it.
    shell.ask("refused", "dmesg | grep 'unchecked MSR access' | grep -vc ' 0x48 '");
    shell.ask("invariance", "dmesg | grep -o 'Estimated ratio of average max frequency by base.*'");
    shell.ask("driver", "cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_driver");
    // The governor of the default asks for as much as the guest is busy.
    shell.ask(
        "governor",
        "for f in /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; do echo performance > $f; \
         done; echo $?",
    );
    shell.ask("speeds", "rdmsr -a 0x1ad; rdmsr 0x198; rdmsr -f 22:16 -d 0x19c");
    shell.ask("counting", "a=$(rdmsr -d 0xe8); b=$(rdmsr -d 0xe8); [ $b -gt $a ]; echo $?");
    let once = "turbostat --quiet --num_iterations 1 --interval 1";
    shell.ask(
        "columns",
        &format!("{once} --show Bzy_MHz,TSC_MHz,CoreTmp,PkgWatt 2>&1; echo code $?"),
    );
    shell.ask("decoded", "turbostat --num_iterations 1 --interval 1 2>&1 | grep -c 'max turbo'");
    let run = shell.power_off();
    assert_eq!(run.answer("refused"), "0", "{run}");
    assert!(run.answer("driver").starts_with("intel_"), "{run}");
    // It asks for turbo, and gets that of two busy cores.
    assert_eq!(run.answer("governor"), "0", "{run}");
    assert_eq!(run.answer("speeds"), "2121212121212124 2121212121212124 2100 45", "{run}");
    assert_eq!(run.answer("counting"), "0", "{run}");
    let columns = run.answer("columns");
    assert!(columns.ends_with("code 0") && columns.contains(" 50 "), "{run}");
    assert_ne!(run.answer("decoded"), "0", "{run}");
    // 1024 * 3.3 GHz / 2.4 GHz
    assert!(run.answer("invariance").ends_with("1408"), "{run}");
    Ok(())
}
