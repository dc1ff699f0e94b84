//! `[msr] default = "deny"`: every MSR that is neither claimed nor allowed is the policy's.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// What the script guest needs to come up, and what these tests allow: IA32_EFER in both
/// directions, IA32_TIME_STAMP_COUNTER, reads of IA32_FS_BASE.
const DENY: &str = r#"default = "deny"
    allow = ["0xc0000080", 0x10, { range = "0xc0000100", access = "r" }]"#;

/// Answers 9.
const NINE: Plugin = Plugin {
    name: "nine",
    manifest: r#"msr = [{ range = "0x174", access = "r" }, { range = "0xffffffff" }]"#,
    code: "(reads (i64.const 9)) (writes)",
};

#[apply(test)]
fn what_is_not_listed_faults() -> Outcome {
    let run = Vm::new().policy(DENY).run(
        "
        r 10                 -> ?
        r c0000100           -> ?
        w c0000100 5         -> fault
        # Passed through to the hardware, emulated, unknown, and the last one there is.
        r c0000102           -> fault
        r 174                -> fault
        w 174 1              -> fault
        r deadbeef           -> fault
        r ffffffff           -> fault
        w ffffffff 1         -> fault
        # Listed does not mean that KVM takes everything.
        w c0000080 ffff0000  -> fault
        ",
    )?;
    run.exited(1).said(&[
        "the read of 0x174 (IA32_SYSENTER_CS) is unhandled (reason filter, not in [msr] allow",
        "the write of 0xffffffff with 0x1 is unhandled (reason filter, not in [msr] allow",
        "the write of 0xc0000080 (IA32_EFER) with 0xffff0000 is unhandled (reason invalid, vCPU 0",
    ]);
    Ok(())
}

#[apply(test)]
fn the_policy_decides_by_its_rules() -> Outcome {
    let policy = format!(
        "{DENY}\nunknown = \"ignore\"\n\
         [[msr.override]]\nrange = \"0x175\"\nread = \"kernel\"\nwrite = \"kernel\"\n\
         [[msr.override]]\nrange = \"0x176\"\nread = \"fault\"\n"
    );
    Vm::new().policy(&policy).prints(
        "
        w 174 5    -> ok
        r 174      -> 0
        w 175 1234 -> ok
        r 175      -> 1234
        r 176      -> fault
        w 176 1    -> ok
        r deadbeef -> 0
        ",
    )
}

#[apply(test)]
fn all_but_the_listed_is_kvms_and_counted() -> Outcome {
    let (workdir, running) = Vm::new()
        .policy("default = \"deny\"\nunknown = \"kernel\"")
        .arguments(&["--record", "all.jsonl"])
        .start(
            "
            w c0000102 77 -> ok
            r c0000102    -> 77
            r deadbeef    -> fault
            ",
        )?;
    let run = running.finish().exited(1);
    assert!(run.stderr.contains("0xc0000102"), "{run}");
    let text = fs::read_to_string(workdir.path().join("all.jsonl")).expect("it was written");
    let accesses: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let has = |msr: &str, op: &str, outcome: &str| {
        accesses.iter().any(|line| {
            line["msr"] == msr
                && line["op"] == op
                && line["outcome"] == outcome
                && line["reason"] == "filter"
        })
    };
    assert!(
        has("0xc0000102", "write", "kernel") && has("0xc0000102", "read", "kernel"),
        "{accesses:?}"
    );
    workdir.wasmsr(&["replay", "all.jsonl"]).exited(0);
    Ok(())
}

#[apply(test)]
fn plugins_answer_what_they_claim() -> Outcome {
    Vm::new().policy(DENY).plugin(&NINE).prints(
        "
        r 174      -> 9
        w 174 1    -> fault
        r ffffffff -> 9
        w ffffffff 1 -> ok
        r 175      -> fault
        r 10       -> ?
        ",
    )
}

/// 0x1000 and 0x1001 turn IA32_SYSENTER_CS and IA32_TIME_STAMP_COUNTER off and on.
const SWITCHES: Plugin = Plugin {
    name: "switches",
    manifest: r#"
        needs.capabilities = ["intercept"]
        msr = [
            { range = "0x1000-0x1001" },
            { range = "0x174", access = "r", intercept = "off" },
            { range = "0xc0000100", access = "r" },
        ]"#,
    code: r#"
        (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (reads (i64.const 9))
        (writes
            (drop (call $intercept
                (i32.wrap_i64 (local.get $value)) (i32.wrap_i64 (local.get $value))
                (i32.const 1)
                (i32.and (local.get $msr) (i32.const 1)))))"#,
};

#[apply(test)]
fn what_a_plugin_turns_off_is_kvms_only_if_it_is_listed() -> Outcome {
    Vm::new().policy(DENY).plugin_with(&SWITCHES, "grant = [\"intercept\"]").prints(
        "
        r 174           -> fault
        w 1001 174      -> ok
        r 174           -> 9
        w 1000 174      -> ok
        r 174           -> fault
        r c0000100      -> 9
        w 1000 c0000100 -> ok
        r c0000100      -> 0
        ",
    )
}

#[apply(test)]
fn lines_are_bounded() -> Outcome {
    let mut script = String::new();
    for msr in 0x3000..0x3200 {
        writeln!(script, "r {msr:x} -> fault").expect("a String takes it");
    }
    let run = Vm::new().policy(DENY).run(&script)?.exited(1);
    let lines = run.stderr.matches("is unhandled").count();
    assert!((1..=256).contains(&lines), "{lines} lines:\n{run}");
    Ok(())
}

/// What docs/contract.md lists for a Linux guest.
const LINUX: &str = r#"default = "deny"
    allow = [
        "0x10",                  # IA32_TIME_STAMP_COUNTER
        "0x1b",                  # IA32_APIC_BASE
        "0x174-0x176",           # IA32_SYSENTER_CS, _ESP, _EIP
        "0x277",                 # IA32_PAT
        "0x6e0",                 # IA32_TSC_DEADLINE
        "0x4b564d00-0x4b564d07", # KVM's clock, steal time and asynchronous page faults
        "0xc0000080-0xc0000084", # IA32_EFER, _STAR, _LSTAR, _CSTAR, _FMASK
        "0xc0000100-0xc0000103", # IA32_FS_BASE, _GS_BASE, _KERNEL_GS_BASE, _TSC_AUX
    ]"#;

#[apply(test)]
fn linux_boots_with_a_short_list() -> Outcome {
    let vm = Vm::new().vcpus(2).memory("256MiB").policy(LINUX);
    let (_workdir, mut running) = vm.start_linux()?;
    running.wait_for("built-in shell");
    running.type_in("echo cpus: $(nproc)\n");
    running.wait_for("cpus: 2");
    running.type_in("rdmsr 0x277 && echo pat: $?\n");
    running.wait_for("pat: 0");
    running.type_in("rdmsr 0x17; echo code: $?\n");
    running.wait_for("code: 4");
    running.type_in("sleep 1; echo slept: $((6 * 7))\n");
    running.wait_for("slept: 42");
    running.type_in("poweroff -f\n");
    running.finish().exited(0).said(&[
        "the read of 0x10a (IA32_ARCH_CAPABILITIES) is unhandled (reason filter, not in [msr] allow",
        "the read of 0x17 (IA32_PLATFORM_ID) is unhandled (reason filter, not in [msr] allow",
    ]);
    Ok(())
}
