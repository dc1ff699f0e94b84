//! `sampling-guard`: writes that are counted, told and, beyond a number, faulted.

use crate::fixture::{Outcome, Vm, apply, guest_exit, test};

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("sampling-guard").prints(
        "
        # IA32_PAT, as a reset leaves it (Intel SDM volume 3, section 12.12.4).
        w 277 7040600070406 -> ok
        r 277               -> 7040600070406
        w 56440001 7        -> ok
        r 56440001          -> 7
        w 56440000 7        -> fault
        ",
    )
}

const PAT: &str = r#"config.msrs = [{ range = 0x277, name = "IA32_PAT", fault-after = 2 }]"#;

#[apply(test)]
fn kvm_takes_what_passes() -> Outcome {
    Vm::new().shipped("sampling_guard", PAT).prints(
        "
        r 277               -> 7040600070406
        w 277 6             -> ok
        r 277               -> 6
        w 277 606           -> ok
        w 277 7040600070406 -> fault
        r 277               -> 606
        w 277 606           -> fault
        ",
    )
}

// Memory type 2 is reserved (Intel SDM volume 3, table 12-2).
#[apply(test)]
fn kvm_still_refuses_what_it_refuses() -> Outcome {
    Vm::new().shipped("sampling_guard", "config.msrs = [0x2ff]").prints(
        "
        w 2ff 2   -> fault
        w 2ff c06 -> ok
        r 2ff     -> c06
        ",
    )
}

#[apply(test)]
fn the_number_is_one_for_all_vcpus() -> Outcome {
    Vm::new().vcpus(2).shipped("sampling_guard", PAT).prints(
        "
        w 277 6 -> ok
        cpu 1   -> ok
        w 277 6 -> ok
        w 277 6 -> fault
        cpu 0   -> ok
        w 277 6 -> fault
        ",
    )
}

const REGISTER: &str = r#"
    fallback = true
    config.registers = [{ range = 0x56440001, mask = 0xff, ignored = 0, scope = "vm" }]"#;

#[apply(test)]
fn the_next_plugin_takes_what_passes() -> Outcome {
    let guard = r#"config = { msrs = [0x56440001], fault-after = 3, then = "pass" }"#;
    Vm::new().shipped("sampling_guard", guard).shipped("registers", REGISTER).prints(
        "
        w 56440001 1   -> ok
        r 56440001     -> 1
        w 56440001 100 -> fault
        w 56440001 2   -> ok
        w 56440001 3   -> fault
        r 56440001     -> 2
        ",
    )
}

#[apply(test)]
fn the_policy_takes_what_no_plugin_does() -> Outcome {
    let guard = r#"config = { msrs = [0x56440001], then = "pass" }"#;
    Vm::new().shipped("sampling_guard", guard).prints("w 56440001 1 -> fault")?;
    Vm::new()
        .policy(r#"unknown = "ignore""#)
        .shipped("sampling_guard", guard)
        .prints("w 56440001 1 -> ok")
}

#[apply(test)]
fn a_number_per_second() -> Outcome {
    // A day for those that must not pass again, however slow the machine is.
    let guard = r#"config = { fault-after = 2, msrs = [
        { range = 0x277, per = 86400 }, { range = 0x2ff, per = 1 }] }"#;
    Vm::new().shipped("sampling_guard", guard).prints(
        "
        w 277 6             -> ok
        w 277 6             -> ok
        times 100 w 277 6   -> fault
        w 2ff c06           -> ok
        ",
    )
}

#[apply(test)]
fn the_run_ends_with_a_table() -> Outcome {
    Vm::new()
        .shipped("sampling_guard", PAT)
        .run("w 277 6 \n w 277 606 \n w 277 6")?
        .exited(guest_exit(0))
        .said(&[
            "0x277 (IA32_PAT): vCPU 0 writes 0x6; 1 write, at most 1 in 1 s",
            "0x277 (IA32_PAT): vCPU 0 writes 0x6: fault, fault-after = 2 is used up",
            "values, newest first",
            "0x6 0x606 0x6",
        ]);
    Vm::new()
        .shipped("sampling_guard", PAT)
        .run("r 277")?
        .said(&["none of 1 guarded MSRs was written"]);
    Ok(())
}

/// IA32_BIOS_SIGN_ID: KVM ignores a guest's writes, and takes a VMM's.
#[apply(test)]
fn a_write_that_passes_is_the_guests_own() -> Outcome {
    let script = "r 8b -> ?\nw 8b 123456789a -> ?\nr 8b -> ?";
    let alone = Vm::new().run(script)?;
    let guarded = Vm::new().shipped("sampling_guard", "config.msrs = [0x8b]").run(script)?;
    assert_eq!(guarded.stdout, alone.stdout);
    assert!(!alone.stdout.contains("123456789a\nr 8b -> 123456789a"), "{alone}");
    Ok(())
}

#[apply(test)]
fn a_wrong_list() -> Outcome {
    for (config, parts) in [
        ("config = { msrs = [1], fault-afer = 1 }", ["sampling_guard.wasm", "`fault-afer`"]),
        ("config.msrs = [{ range = 1, access = \"r\" }]", ["`msrs[0].access`", "read"]),
        ("config.msrs = [\"0-0x40\"]", ["`msrs[0]`", "64 MSRs"]),
    ] {
        Vm::new().shipped("sampling_guard", config).run("r 10")?.refused(&parts);
    }
    Ok(())
}

/// The most that a run may say, whatever happens in it.
const LONGEST_LOG: usize = 16 << 10;

/// Runs a guest that writes and writes; it must get through with little said.
#[track_caller]
fn flood(vm: Vm, transcript: &str) -> Outcome {
    let run = vm.run(transcript)?.printed(transcript).exited(guest_exit(0));
    let length = run.stderr.len();
    assert!(length < LONGEST_LOG, "{length} bytes on standard error:\n{run}");
    Ok(())
}

#[apply(test)]
fn a_flood_of_writes() -> Outcome {
    let guard = r#"config = { msrs = [0x277, "0x200-0x20f"], history = 32, log-interval = 1 }"#;
    flood(
        Vm::new().vcpus(2).shipped("sampling_guard", guard),
        "
        aside 1 times 2000 w 277 6 -> ok
        times 2000 w 277 606       -> ok
        join                       -> ok
        w 201 0                    -> ok
        w 203 0                    -> ok
        ",
    )
}

#[apply(test)]
fn a_flood_of_faults() -> Outcome {
    let guard = r#"config = { msrs = [0x277], fault-after = 0, log-interval = 1 }"#;
    flood(
        Vm::new().vcpus(2).shipped("sampling_guard", guard),
        "
        aside 1 times 2000 w 277 6           -> ok
        times 2000 w 277 ffffffffffffffff    -> fault
        join                                 -> fault
        r 277                                -> 7040600070406
        ",
    )
}
