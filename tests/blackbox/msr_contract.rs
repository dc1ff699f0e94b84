//! What KVM promises about MSR exits, kept by this VMM (KVM's `api.rst`,
//! sections 4.97 and 5). That RAX and RDX stay as they were on #GP, and lose
//! their upper halves otherwise, the script guest checks at every access.

use crate::fixture::{Outcome, Plugin, Vm, apply, require_cpuid_leaf_7, test};

/// Answers reads with the number of the access, in the upper half, and the
/// MSR, in the lower.
const RECORDS: Plugin = Plugin {
    name: "records",
    manifest: r#"msr = [{ range = "0xda0" }, { range = "0x10b" }, { range = "0x474f4f00" }]"#,
    code: RECORD,
};

const RECORD: &str = "
    (global $accesses (mut i64) (i64.const 0))
    (func $record
        (global.set $accesses (i64.add (global.get $accesses) (i64.const 1))))
    (reads
        (call $record)
        (i64.or
            (i64.shl (global.get $accesses) (i64.const 32))
            (i64.extend_i32_u (local.get $msr))))
    (writes (call $record))";

#[apply(test)]
fn exactly_the_claimed_exit_in_order() -> Outcome {
    Vm::new().plugin(&RECORDS).prints(
        "
        r da0        -> 100000da0
        r 10         -> ?
        w c0000102 5 -> ok
        r c0000102   -> 5
        w 10b 1      -> ok
        r 474f4f00   -> 3474f4f00
        r da1        -> fault
        r 474f4f01   -> fault
        r 10b        -> 40000010b
        ",
    )
}

#[apply(test)]
fn a_fault_for_each_refused() -> Outcome {
    let refuses = Plugin {
        code: r#"
            (import "wasmsr" "outcome" (func $outcome (param i32)))
            (reads (call $outcome (i32.const 1)) (i64.const -1))
            (writes (call $outcome (i32.const 1)))"#,
        ..RECORDS
    };
    Vm::new().plugin(&refuses).prints(
        "
        r da0        -> fault
        w da0 1      -> fault
        r 10b        -> fault
        w 10b 1      -> fault
        r 474f4f00   -> fault
        w 474f4f00 1 -> fault
        ",
    )
}

#[apply(test)]
fn a_claim_of_reads_leaves_writes_alone() -> Outcome {
    let reads = Plugin {
        name: "reads",
        manifest: r#"msr = [{ range = "0xc0000102", access = "r" }]"#,
        code: RECORD,
    };
    Vm::new().plugin(&reads).prints(
        "
        w c0000102 5 -> ok
        r c0000102   -> 1c0000102
        w c0000102 6 -> ok
        r c0000102   -> 2c0000102
        ",
    )
}

#[apply(test)]
fn a_claim_of_writes_leaves_reads_alone() -> Outcome {
    let writes = Plugin {
        name: "writes",
        manifest: r#"msr = [
            { range = "0xc0000102", access = "w" },
            { range = "0x1000", access = "r" },
        ]"#,
        code: RECORD,
    };
    Vm::new().plugin(&writes).prints(
        "
        w c0000102 5 -> ok
        r c0000102   -> 0
        r 1000       -> 200001000
        ",
    )
}

#[apply(test)]
fn msrs_of_the_hardware_exit_once_claimed() -> Outcome {
    let bases = Plugin {
        name: "bases",
        manifest: r#"msr = [{ range = "0xc0000100-0xc0000102" }]"#,
        code: RECORD,
    };
    let transcript = "
        r c0000100   -> 1c0000100
        r c0000101   -> 2c0000101
        r c0000102   -> 3c0000102
        w c0000100 5 -> ok
        r c0000100   -> 5c0000100
        ";
    Vm::new().plugin(&bases).prints(transcript)?;
    Vm::new().prints(
        "
        w c0000100 5 -> ok
        w c0000101 6 -> ok
        w c0000102 7 -> ok
        r c0000100   -> 5
        r c0000101   -> 6
        r c0000102   -> 7
        ",
    )
}

#[apply(test)]
fn values_are_whole() -> Outcome {
    let keeps = Plugin {
        name: "keeps",
        manifest: r#"msr = [{ range = "0x1000" }]"#,
        code: "
            (global $value (mut i64) (i64.const 0))
            (reads (global.get $value))
            (writes (global.set $value (local.get $value)))",
    };
    Vm::new().plugin(&keeps).prints(
        "
        r 1000                  -> 0
        w 1000 ffffffffffffffff -> ok
        r 1000                  -> ffffffffffffffff
        w 1000 8000000000000001 -> ok
        r 1000                  -> 8000000000000001
        w 1000 80000000         -> ok
        r 1000                  -> 80000000
        ",
    )
}

/// Answers reads with the reason of the access before this one.
const REASONS: &str = "
    (global $last (mut i64) (i64.const 0))
    (reads
        (global.set $last (i64.or
            (i64.shl (global.get $last) (i64.const 4))
            (i64.extend_i32_u (local.get $reason))))
        (global.get $last))
    (writes (global.set $last (i64.extend_i32_u (local.get $reason))))";

#[apply(test)]
fn claimed_accesses_have_reason_filter() -> Outcome {
    let claims = Plugin {
        name: "claims",
        manifest: r#"msr = [{ range = "0x1000" }, { range = "0xc0000102" }]"#,
        code: REASONS,
    };
    Vm::new().plugin(&claims).prints("w 1000 1 -> ok \n r 1000 -> 44 \n r c0000102 -> 444")
}

/// Is offered what KVM refuses.
const REFUSED: Plugin = Plugin {
    name: "refused",
    manifest: r#"unhandled.reasons = ["unknown", "invalid"]"#,
    code: REASONS,
};

#[apply(test)]
fn unknown_msrs_have_reason_unknown() -> Outcome {
    Vm::new().plugin(&REFUSED).prints("r deadbeef -> 2 \n w deadbeef 1 -> ok \n r deadbeef -> 22")
}

#[apply(test)]
fn refused_values_have_reason_invalid() -> Outcome {
    Vm::new().plugin(&REFUSED).prints("w 2ff 2 -> ok \n r deadbeef -> 12")
}

#[apply(test)]
fn an_unreadable_x2apic_msr_has_reason_invalid() -> Outcome {
    Vm::new().plugin(&REFUSED).prints("r 808 -> 1")
}

#[apply(test)]
fn claims_at_both_ends_of_the_space() -> Outcome {
    let ends = Plugin {
        name: "ends",
        manifest: r#"msr = [{ range = "0x0" }, { range = "0xfffffffe" }]"#,
        code: RECORD,
    };
    Vm::new().plugin(&ends).prints("r 0 -> 100000000 \n r fffffffe -> 2fffffffe")
}

#[apply(test)]
fn claims_wider_than_one_filter_range() -> Outcome {
    let wide = Plugin {
        name: "wide",
        manifest: r#"msr = [{ range = "0x40000000-0x40007fff" }]"#,
        code: RECORD,
    };
    Vm::new().plugin(&wide).prints(
        "
        r 3fffffff -> fault
        r 40000000 -> 140000000
        r 40002fff -> 240002fff
        r 40003000 -> 340003000
        r 40007fff -> 440007fff
        r 40008000 -> fault
        ",
    )
}

#[apply(test)]
fn cpuid_changes_with_the_manifest() -> Outcome {
    let changes = Plugin {
        name: "changes",
        manifest: r#"
            msr = [{ range = "0x1000" }]
            cpuid = [
                { leaf = 0x40000010, eax.set = [3] },
                { leaf = 1, ecx.clear = [31] },
            ]"#,
        code: RECORD,
    };
    Vm::new().vcpus(2).plugin(&changes).prints(
        "
        cpuid 40000010 0 a 3 -> 1
        cpuid 40000010 0 a 2 -> 0
        cpuid 1 0 c 1f       -> 0
        cpu 1                -> ok
        cpuid 40000010 0 a 3 -> 1
        ",
    )
}

#[apply(test)]
fn cpuid_leaves_of_the_hardware_change() -> Outcome {
    require_cpuid_leaf_7()?;
    let changes = Plugin {
        name: "changes",
        manifest: r#"
            msr = [{ range = "0x1000" }]
            cpuid = [{ leaf = 7, edx.set = [29], ebx.clear = [0] }]"#,
        code: RECORD,
    };
    Vm::new().plugin(&changes).prints("cpuid 7 0 d 1d -> 1 \n cpuid 7 0 b 0 -> 0")
}
