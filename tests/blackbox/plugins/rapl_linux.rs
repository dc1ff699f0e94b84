//! `rapl` as a stock Linux on a server reads it: through the driver `intel_rapl_msr` in
//! `/sys/class/powercap`, and through `turbostat`.

use super::processors::{EPYC, XEON};
use crate::fixture::{Outcome, Run, Shell, Vm, apply, test};

const IDLE_WATTS: f64 = 12.0;
/// With both vCPUs busy.
const BUSY_WATTS: f64 = 28.0;
const MODEL: &str = "
    config.tdp-watts = 150
    config.model.package = { idle-mw = 12000, vcpu-mw = 8000 }
    config.model.dram = { idle-mw = 2000, vcpu-mw = 500 }";

/// Two CPUs. `turbostat` also reads MSRs that are not RAPL's and that KVM does
/// not know.
fn vm() -> Vm {
    let vm = Vm::new().vcpus(2).memory("256MiB").policy(r#"unknown = "ignore""#);
    vm.plugin(&XEON).shipped("rapl", MODEL)
}

/// Loads the drivers, and enters the folder of the first package.
fn enter_powercap(shell: &mut Shell) {
    let drivers = ["iosf_mbi", "intel_rapl_common", "intel_rapl_msr"];
    let load: String = drivers.map(|name| format!("insmod /modules/{name}.ko && ")).concat();
    shell.ask("load", &format!("{load} echo done"));
    shell.type_in("cd /sys/class/powercap/intel-rapl:0");
}

fn numbers(run: &Run, mark: &str) -> Vec<f64> {
    let numbers = run.answer(mark).split(' ').map(str::parse);
    numbers.collect::<Result<_, _>>().expect("a reading is numbers")
}

#[apply(test)]
fn powercap_reads_energy_that_rises() -> Outcome {
    let mut shell = Shell::of(vm())?;
    enter_powercap(&mut shell);
    shell.ask("names", "cat name intel-rapl:0:*/name");
    // In one go: the uptime in hundredths of a second, and microjoules.
    let reading = "cut -d ' ' -f 1 /proc/uptime; cat energy_uj intel-rapl:0:0/energy_uj";
    shell.ask("first", reading);
    shell.ask("slept", "sleep 4; echo done");
    shell.ask("second", reading);
    let limit = "constraint_0_power_limit_uw";
    shell.ask("limits", &format!("cat {limit}; echo 90000000 >{limit}; cat {limit}"));
    let run = shell.power_off();

    assert_eq!(run.answer("load"), "done", "{run}");
    assert_eq!(run.answer("names"), "package-0 dram", "{run}");
    assert_eq!(run.answer("limits"), "150000000 90000000", "{run}");
    let (first, second) = (numbers(&run, "first"), numbers(&run, "second"));
    let (&[t1, package1, dram1], &[t2, package2, dram2]) = (&*first, &*second) else {
        panic!("{first:?} {second:?}\n{run}");
    };
    // The time and the energy are not read at the same moment.
    let watts = |first: f64, second: f64| (second - first) / 1e6 / (t2 - t1);
    let package = watts(package1, package2);
    assert!((0.5 * IDLE_WATTS..=2.0 * BUSY_WATTS).contains(&package), "{package} W\n{run}");
    let dram = watts(dram1, dram2);
    assert!((1.0..=6.0).contains(&dram), "{dram} W\n{run}");
    Ok(())
}

#[apply(test)]
fn turbostat_reads_plausible_watts() -> Outcome {
    let mut shell = Shell::of(vm())?;
    let turbostat = "turbostat --quiet --num_iterations 2 --interval 2";
    let columns = "--show PkgWatt,RAMWatt";
    shell.ask("watts", &format!("{turbostat} {columns} 2>/dev/null; echo code $?"));
    // Registers that it decodes for people.
    let decoded =
        "turbostat --num_iterations 1 --interval 1 2>&1 | grep -o ': PKG Limit #1.*Watts'";
    shell.ask("limit", decoded);
    let run = shell.power_off();

    assert_eq!(run.answer("limit"), ": PKG Limit #1: ENabled (150.000 Watts", "{run}");
    let words: Vec<&str> = run.answer("watts").split_whitespace().collect();
    assert!(words.ends_with(&["code", "0"]), "{run}");
    let numbers: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    // A line for the system and one for the package, twice, and the exit code.
    let (_, watts) = numbers.split_last().expect("there is the exit code");
    assert_eq!(watts.len(), 8, "{run}");
    for pair in watts.chunks(2) {
        let &[package, dram] = pair else { panic!("{watts:?}\n{run}") };
        assert!((0.5 * IDLE_WATTS..=2.0 * BUSY_WATTS).contains(&package), "{package} W\n{run}");
        assert!((1.0..=6.0).contains(&dram), "{dram} W\n{run}");
    }
    Ok(())
}

/// AMD's package has its energy at 0xc001029b, and nothing that limits it.
#[apply(test)]
fn linux_finds_an_amd_guests_energy() -> Outcome {
    let model = "config.vendor = \"amd\"
                 config.model.package = { idle-mw = 12000, vcpu-mw = 8000 }
                 config.model.core = { idle-mw = 2000, vcpu-mw = 8000 }";
    let vm = Vm::new().vcpus(2).memory("256MiB").plugin(&EPYC).shipped("rapl", model);
    let mut shell = Shell::of(vm)?;
    enter_powercap(&mut shell);
    shell.ask("names", "cat name intel-rapl:0:*/name");
    let reading = "cut -d ' ' -f 1 /proc/uptime; cat energy_uj";
    shell.ask("first", reading);
    shell.ask("slept", "sleep 4; echo done");
    shell.ask("second", reading);
    let once = "turbostat --quiet --num_iterations 1 --interval 2 --show PkgWatt";
    shell.ask("turbostat", &format!("{once} 2>/dev/null; echo code $?"));
    let run = shell.power_off();

    assert_eq!(run.answer("load"), "done", "{run}");
    assert_eq!(run.answer("names"), "package-0 core", "{run}");
    let (first, second) = (numbers(&run, "first"), numbers(&run, "second"));
    let (&[t1, package1], &[t2, package2]) = (&*first, &*second) else {
        panic!("{first:?} {second:?}\n{run}");
    };
    let watts = (package2 - package1) / 1e6 / (t2 - t1);
    assert!((0.5 * IDLE_WATTS..=2.0 * BUSY_WATTS).contains(&watts), "{watts} W\n{run}");
    let words: Vec<&str> = run.answer("turbostat").split_whitespace().collect();
    assert!(words.ends_with(&["code", "0"]), "{run}");
    let shown: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let plausible = |watts: &&f64| (0.5 * IDLE_WATTS..=2.0 * BUSY_WATTS).contains(*watts);
    assert!(shown.iter().any(|watts| plausible(&watts)), "{shown:?}\n{run}");
    Ok(())
}
