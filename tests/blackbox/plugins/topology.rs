//! `topology`: what the processor says of itself, and what of it stays KVM's.

use crate::fixture::{Outcome, Skip, Vm, apply, guest_exit, test};

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("topology").prints(
        "
        r 35          -> 30003
        w 35 0        -> fault
        r 17          -> 0
        w 17 0        -> fault
        w ce 0        -> fault
        r e2          -> 0
        w e2 8402     -> ok
        w e2 0        -> fault
        r e2          -> 8402
        # The sequence of Intel's update loader; CPUID comes in between.
        w 8b 0        -> ok
        cpuid 1 0 c 0 -> ?
        r 8b          -> d0003a500000000
        cpu 2         -> ok
        w 8b 0        -> ok
        r 8b          -> d0003a500000000
        r 35          -> 30003
        ",
    )
}

const GRANT: &str = "grant = [\"kvm-msr\"]\n";

#[apply(test)]
fn the_counts_are_the_vms() -> Outcome {
    Vm::new().shipped("topology", GRANT).prints("r 35 -> 10001")?;
    let threads = format!("{GRANT} config.threads-per-core = 2");
    Vm::new().vcpus(4).shipped("topology", &threads).prints("r 35 -> 20004")
}

/// What a guest of one vCPU reads of an MSR.
#[track_caller]
fn reads(vm: Vm, msr: &str) -> Result<u64, Skip> {
    let run = vm.run(&format!("r {msr}"))?.exited(guest_exit(0));
    let value = run.stdout.trim().strip_prefix(&format!("r {msr} -> "));
    let value = value.and_then(|hex| u64::from_str_radix(hex, 16).ok());
    Ok(value.unwrap_or_else(|| panic!("it has not read {msr}:\n{run}")))
}

#[apply(test)]
fn the_microcode_is_kvms_if_not_said() -> Outcome {
    let kvms = reads(Vm::new(), "8b")?;
    // KVM would take the 0 for the VMM's.
    let transcript = format!("w 8b 0 -> ok \n r 8b -> {kvms:x}");
    Vm::new().shipped("topology", GRANT).prints(&transcript)
}

#[apply(test)]
fn misc_enable_goes_on_to_kvm() -> Outcome {
    const FIXED_CLEAR: u64 = 1 << 3;
    const FIXED_SET: u64 = 1 << 16;
    const BTS_UNAVAILABLE: u64 = 1 << 11;
    const PEBS_UNAVAILABLE: u64 = 1 << 12;
    const LIMIT_CPUID: u64 = 1 << 22;

    let config = format!("{GRANT} config.misc-enable = {{ set = [16], clear = [3] }}");
    // KVMs differ in what they start with.
    let kvms = reads(Vm::new(), "1a0")?;
    let first = kvms & !FIXED_CLEAR | FIXED_SET;
    Vm::new().vcpus(2).shipped("topology", &config).prints(&format!(
        "
        r 1a0       -> {first:x}
        w 1a0 {a:x} -> ok
        r 1a0       -> {second:x}
        w 1a0 {b:x} -> fault
        w 1a0 {c:x} -> fault
        r 1a0       -> {second:x}
        # Each vCPU has its own.
        cpu 1       -> ok
        r 1a0       -> {first:x}
        ",
        a = (first ^ FIXED_SET) | FIXED_CLEAR | LIMIT_CPUID,
        second = first | LIMIT_CPUID,
        b = first ^ BTS_UNAVAILABLE,
        c = first ^ PEBS_UNAVAILABLE,
    ))
}

#[apply(test)]
fn cpuid_faulting_is_kvms() -> Outcome {
    // Bit 31 as KVM has it, in which case it also lets it be enabled; the ratios are
    // the plugin's.
    let config = format!("{GRANT} config.max-ratio = 20\n config.min-ratio = 10");
    let run = Vm::new().shipped("topology", &config).run("r ce \n w 140 1")?.exited(guest_exit(0));
    let has = run.stdout.contains("r ce -> a0080001400");
    assert!(has || run.stdout.contains("r ce -> a0000001400"), "{run}");
    assert_eq!(run.stdout.contains("w 140 1 -> ok"), has, "{run}");
    Ok(())
}

#[apply(test)]
fn a_wrong_configuration() -> Outcome {
    let refused = |vcpus, config: &str, parts: &[&str]| -> Outcome {
        let config = format!("{GRANT} {config}");
        Vm::new().vcpus(vcpus).shipped("topology", &config).run("r 35")?.refused(parts);
        Ok(())
    };
    refused(3, "config.threads-per-core = 2", &["`threads-per-core`", "3 vCPUs"])?;
    refused(1, "config.min-ratio = 255\n config.max-ratio = 20", &["`min-ratio`", "1 to 20"])?;
    refused(1, "config.max-ratio = 0", &["`max-ratio`", "0 is not from 1 to 255"])?;
    refused(1, "config.microcode = \"0x200000000\"", &["`microcode`", "32 bits"])?;
    Vm::new().shipped("topology", "").run("r 35")?.refused(&["topology.wasm", "kvm-msr"]);
    Ok(())
}
