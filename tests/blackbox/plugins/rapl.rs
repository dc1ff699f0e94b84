//! `rapl`: units, limits and energy counters, and where the energy comes from.

use std::fs;

use crate::fixture::{Outcome, Run, Vm, apply, guest_exit, test};

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("rapl").prints(
        "
        r 606 -> a1003
        w 606 0 -> fault
        r 610 -> 4285dc00dd84b0
        r 611 -> ?
        w 611 0 -> fault
        r 613 -> 0
        r 614 -> 4b0
        r 619 -> ?
        r 639 -> fault
        r 641 -> fault
        # A package has these registers once.
        w 610 8000 -> ok
        cpu 1 -> ok
        r 610 -> 8000
        ",
    )
}

const MODEL: &str = "
    config.model.package = { idle-mw = 10000, vcpu-mw = 1000 }
    config.model.core = { idle-mw = 1, vcpu-mw = 1000 }
    config.update-ms = 1";

#[apply(test)]
fn limits_are_kept_until_they_are_locked() -> Outcome {
    Vm::new().shipped("rapl", MODEL).prints(
        "
        w 610 1000000          -> fault
        w 610 100000000000000  -> fault
        w 610 80ffffff00ffffff -> ok
        w 610 0                -> ok
        r 610                  -> 80ffffff00ffffff
        w 638 80000000         -> ok
        w 63a 1f               -> ok
        r 63a                  -> 0
        ",
    )
}

#[apply(test)]
fn domains_that_are_not_there_fault() -> Outcome {
    Vm::new().shipped("rapl", MODEL).prints(
        "
        r 618   -> fault
        r 619   -> fault
        w 619 0 -> fault
        r 61b   -> fault
        r 61c   -> fault
        r 640   -> fault
        r 641   -> fault
        r 642   -> fault
        r 639   -> ?
        r 63b   -> 0
        ",
    )
}

/// As Linux's drivers read them on an AMD guest.
#[apply(test)]
fn an_amd_guest_has_its_own_registers() -> Outcome {
    Vm::new().shipped("rapl", MODEL).prints(
        "
        r c0010299   -> a1003
        r c001029a   -> ?
        r c001029b   -> ?
        w c001029b 0 -> fault
        ",
    )?;
    let amd = format!("{MODEL}\nconfig.vendor = \"amd\"");
    Vm::new().shipped("rapl", &amd).prints("r 606 -> fault \n r c0010299 -> a1003")
}

/// What the guest read of an MSR, in order.
fn readings(run: &Run, msr: &str) -> Vec<u64> {
    let read = format!("r {msr} -> ");
    let number = |hex| u64::from_str_radix(hex, 16).expect("a read is a number");
    run.stdout.lines().filter_map(|line| line.split(&read).nth(1)).map(number).collect()
}

#[apply(test)]
fn energy_rises() -> Outcome {
    // Each of the many accesses takes some microseconds.
    let run = Vm::new().shipped("rapl", MODEL).run(
        "
        r 611
        r 639
        times 4000 r 606
        r 611
        times 4000 r 611
        times 4000 r 606
        r 611
        r 639
        ",
    )?;
    let run = run.exited(guest_exit(0));
    let package = readings(&run, "611");
    assert!(package.is_sorted() && package.first() < package.last(), "{package:x?}\n{run}");
    let core = readings(&run, "639");
    assert!(core.is_sorted(), "{core:x?}\n{run}");
    // A power plane is a part of the package.
    assert!(core.last() <= package.last(), "{run}");
    Ok(())
}

#[apply(test)]
fn the_hosts_energy_is_shared_out() -> Outcome {
    const JOULE: u64 = 1 << 16;

    let vm = Vm::new().shipped(
        "rapl",
        r#"grant = ["timer", "host-file:package=energy_uj"]
           config = { source = "powercap", update-ms = 1 }"#,
    );
    // The guest is busy for longer than a tick of the host's scheduler.
    let script = "
        r 611
        key
        times 10000 r 606
        r 611
        r 639
        ";
    let workdir = vm.on_disk(script)?;
    workdir.put("energy_uj", "5000000\n");
    let mut running = crate::fixture::Running::start(
        crate::fixture::wasmsr(&["run", "vm.toml"]).current_dir(workdir.path()),
    );
    running.wait_for("r 611 -> 0\n");
    // In one step: the plugin may read at any time.
    workdir.put("energy.new", "105000000\n");
    fs::rename(workdir.path().join("energy.new"), workdir.path().join("energy_uj"))
        .expect("a file can be replaced");
    running.type_in("a");
    let run = running.finish().exited(guest_exit(0)).said(&["powercap"]);
    let package = readings(&run, "611");
    let &[0, share] = package.as_slice() else { panic!("{package:x?}\n{run}") };
    assert!((1..=100 * JOULE).contains(&share), "{share:#x} of {:#x}\n{run}", 100 * JOULE);
    assert!(run.stdout.contains("r 639 -> fault"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_source_that_is_not_granted() -> Outcome {
    for (source, grant) in [
        ("powercap", "host-file:package=/sys/class/powercap/intel-rapl:0/energy_uj"),
        ("host-msr", "host-msr:0x606-0x641"),
    ] {
        let config = format!("config.source = \"{source}\"");
        Vm::new().shipped("rapl", &config).run("r 606")?.refused(&["`source`", grant]);
    }
    Ok(())
}

#[apply(test)]
fn a_counter_of_the_host_without_a_timer() -> Outcome {
    let vm = Vm::new().shipped("rapl", "grant = [\"host-file:package=energy_uj\"]");
    let workdir = vm.on_disk("r 606")?;
    workdir.put("energy_uj", "5000000\n");
    workdir.wasmsr(&["run", "vm.toml"]).refused(&["`source`", "grant `timer`"]);
    Ok(())
}

#[apply(test)]
fn a_wrong_configuration() -> Outcome {
    let refused = |config: &str, parts: &[&str]| -> Outcome {
        let config = format!("{MODEL}\n{config}");
        Vm::new().shipped("rapl", &config).run("r 606")?.refused(parts);
        Ok(())
    };
    refused("config.units = 0x10", &["`units`", "reserved"])?;
    refused("config.domains = [\"package\", \"dram\"]", &["`domains`", "`dram`"])?;
    refused("config.tdp-wats = 1", &["`tdp-wats`"])
}

#[apply(test)]
fn without_anything_that_it_needs() -> Outcome {
    Vm::new().shipped("rapl", "").run("r 606")?.refused(&["no source of energy", "`model`"]);
    Ok(())
}
