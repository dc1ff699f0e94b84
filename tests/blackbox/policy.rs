//! `[msr]` of the profile: what becomes of unhandled accesses.

use crate::fixture::{Outcome, Vm, apply, test};

#[apply(test)]
fn unknown_faults_by_default() -> Outcome {
    Vm::new().prints("r deadbeef -> fault \n w deadbeef 1 -> fault")
}

#[apply(test)]
fn unknown_fault() -> Outcome {
    Vm::new().policy(r#"unknown = "fault""#).prints("r deadbeef -> fault \n w deadbeef 1 -> fault")
}

#[apply(test)]
fn unknown_ignore() -> Outcome {
    Vm::new().policy(r#"unknown = "ignore""#).prints(
        "
        w deadbeef 1 -> ok
        r deadbeef   -> 0
        # A refused value is not an unknown MSR.
        w 2ff 2      -> fault
        ",
    )
}

#[apply(test)]
fn unknown_stop() -> Outcome {
    Vm::new()
        .policy(r#"unknown = "stop""#)
        .run("r 10 -> ? \n r deadbeef ->")?
        .printed("r 10 -> ? \n r deadbeef ->")
        .exited(10)
        .said(&["wasmsr: ", "read", "0xdeadbeef", "unknown = \"stop\"", "vCPU 0"]);
    Ok(())
}

#[apply(test)]
fn unknown_stop_at_a_write() -> Outcome {
    Vm::new()
        .policy(r#"unknown = "stop""#)
        .run("w deadbeef 1 ->")?
        .printed("w deadbeef 1 ->")
        .exited(10)
        .said(&["wasmsr: ", "write", "0xdeadbeef"]);
    Ok(())
}

/// KVM's own line about an unhandled write has the value too.
#[apply(test)]
fn lines_have_the_value_and_the_place() -> Outcome {
    Vm::new().run("w deadbeef 2000000f -> fault")?.said(&[
        "the write of 0xdeadbeef with 0x2000000f is unhandled (reason unknown, vCPU 0 at RIP 0x",
    ]);
    Vm::new().policy(r#"unknown = "stop""#).run("w deadbeef 2000000f ->")?.exited(10).said(&[
        "wasmsr: stopped: the write of 0xdeadbeef with 0x2000000f is unhandled (reason unknown)",
        "(vCPU 0 at RIP 0x",
    ]);
    Ok(())
}

// Memory type 2 is reserved (Intel SDM volume 3, table 12-2), so no KVM takes
// it for IA32_MTRR_DEF_TYPE, and none leaves that MSR to the hardware.

#[apply(test)]
fn invalid_faults_by_default() -> Outcome {
    Vm::new().prints("w 2ff 2 -> fault")
}

#[apply(test)]
fn invalid_ignore() -> Outcome {
    Vm::new().policy(r#"invalid = "ignore""#).prints(
        "
        w 2ff c06  -> ok
        w 2ff 2    -> ok
        r 2ff      -> c06
        r deadbeef -> fault
        ",
    )
}

#[apply(test)]
fn invalid_stop() -> Outcome {
    Vm::new()
        .policy(r#"invalid = "stop""#)
        .run("w 2ff 2 ->")?
        .printed("w 2ff 2 ->")
        .exited(10)
        .said(&["wasmsr: ", "write", "0x2ff (IA32_MTRR_DEF_TYPE)", "invalid = \"stop\""]);
    Ok(())
}
