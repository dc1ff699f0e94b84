//! `host-passthrough`: MSRs of the host's CPUs.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::fixture::{Outcome, Vm, apply, cannot_run_here, guest_exit, test};

/// An MSR of the host's first CPU, if it can be read here.
fn of_host(msr: u64) -> Option<u64> {
    let mut value = [0; 8];
    File::open("/dev/cpu/0/msr").ok()?.read_exact_at(&mut value, msr).ok()?;
    Some(u64::from_le_bytes(value))
}

/// What a guest sees of it.
fn seen(value: Option<u64>) -> String {
    value.map_or("fault".to_owned(), |value| format!("{value:x}"))
}

#[apply(test)]
fn the_example() -> Outcome {
    let status = if of_host(0x198).is_some() { "?" } else { "fault" };
    Vm::example("host-passthrough").prints(&format!(
        "
        r 17    -> {}
        w 17 0  -> fault
        r ce    -> {}
        w ce 0  -> fault
        r 198   -> {status}
        w 198 0 -> ok
        ",
        seen(of_host(0x17)),
        seen(of_host(0xce).map(|value| value & 0xff00_0000_ff00)),
    ))
}

/// MSRs that hosts of every make have, and that hold still.
const MTRR_CAP: &str = "0xfe";

#[apply(test)]
fn a_copy_is_the_hosts() -> Outcome {
    let Some(value) = of_host(0xfe) else {
        return cannot_run_here("/dev/cpu/0/msr cannot be read");
    };
    let lines = format!(
        "grant = [\"host-msr:{MTRR_CAP}\"]
        config.msrs = [{{ range = {MTRR_CAP}, when = \"boot\", from = 0, mask = 0xff }}]"
    );
    Vm::new().vcpus(2).shipped("host_passthrough", &lines).prints(&format!(
        "
        r fe   -> {0:x}
        w fe 0 -> fault
        cpu 1  -> ok
        r fe   -> {0:x}
        ",
        value & 0xff,
    ))
}

#[apply(test)]
fn a_kept_write_is_its_vcpus_own() -> Outcome {
    let Some(value) = of_host(0xfe) else {
        return cannot_run_here("/dev/cpu/0/msr cannot be read");
    };
    let lines = format!(
        "grant = [\"host-msr:{MTRR_CAP}\"]
        config.msrs = [{{ range = {MTRR_CAP}, write = \"keep\" }}]"
    );
    Vm::new().vcpus(2).shipped("host_passthrough", &lines).prints(&format!(
        "
        w fe ffffffffffffffff -> ok
        r fe                  -> ffffffffffffffff
        cpu 1                 -> ok
        r fe                  -> {value:x}
        "
    ))?;
    assert_eq!(of_host(0xfe), Some(value), "the host's own is never written");
    Ok(())
}

/// No host has this CPU. (An emulated one may read any MSR as 0.)
#[apply(test)]
fn a_copy_that_cannot_be_had() -> Outcome {
    Vm::new()
        .shipped(
            "host_passthrough",
            r#"grant = ["host-msr:0xdeadbeef"]
            config.msrs = [{ range = 0xdeadbeef, when = "boot", from = 4294967295 }]"#,
        )
        .run("r deadbeef")?
        .exited(2)
        .said(&["host-passthrough", "0xdeadbeef", "`host-msr:RANGE`", "module `msr`"]);
    Ok(())
}

#[apply(test)]
fn what_is_not_granted() -> Outcome {
    let run = Vm::new()
        .shipped(
            "host_passthrough",
            r#"grant = ["host-msr:0x17"]
            config.msrs = [{ range = "0x10-0xff", write = "keep" }]"#,
        )
        .run("r 10 \n r fe \n w fe 1 \n r fe \n times 1000 r fe")?;
    run.printed(
        "
        r 10            -> fault
        r fe            -> fault
        w fe 1          -> fault
        r fe            -> fault
        times 1000 r fe -> fault
        ",
    )
    .exited(guest_exit(0))
    .said(&["0x10", "cannot be read", "`host-msr:RANGE`"]);
    Vm::new()
        .shipped("host_passthrough", "config.msrs = [{ range = 0x17 }]")
        .run("r 17")?
        .refused(&["host_passthrough.wasm", "`host-msr`"]);
    Ok(())
}

#[apply(test)]
fn a_cpu_that_is_not_there() -> Outcome {
    Vm::new()
        .shipped(
            "host_passthrough",
            r#"grant = ["host-msr:0x17"]
            config.msrs = [{ range = 0x17, from = 4294967295 }]"#,
        )
        .prints("r 17 -> fault \n w 17 0 -> fault")
}

/// Each bit by itself, where writes are ignored: nothing of it reaches the host.
#[apply(test)]
fn a_walk_of_writes() -> Outcome {
    let writes: String = (0..64).map(|bit| format!("w fe {:x} -> ok\n", 1_u64 << bit)).collect();
    let lines = format!(
        "grant = [\"host-msr:0x0-0xffffffff\"]
        config.msrs = [{{ range = {MTRR_CAP}, write = \"ignore\" }}]"
    );
    let before = of_host(0xfe);
    Vm::new()
        .shipped("host_passthrough", &lines)
        .prints(&format!("{writes} r fe -> {}", seen(before)))?;
    assert_eq!(of_host(0xfe), before);
    Ok(())
}

#[apply(test)]
fn contradictions() -> Outcome {
    for (entries, parts) in [
        ("{ range = 0x17, access = \"w\" }", ["`msrs[0].access`", "reads do not exit"]),
        ("{ range = 0x17, write = \"pass\" }", ["`msrs[0].write`", "`pass`"]),
        ("{ range = 0x17, from = \"cpu0\" }", ["`msrs[0].from`", "`"]),
        ("{ range = \"0x1000-0x1fff\", write = \"keep\" }", ["`msrs`", "at most 512"]),
    ] {
        let lines = format!("grant = [\"host-msr:0x17\"]\nconfig.msrs = [{entries}]");
        Vm::new().shipped("host_passthrough", &lines).run("r 17")?.refused(&parts);
    }
    Ok(())
}
