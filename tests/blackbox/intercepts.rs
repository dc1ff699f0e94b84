//! Intercepts that a plugin changes while the guest runs.

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// Reserves the bases that KVM passes through, and MSRs that it does not know;
/// answers 0xa. A write of an MSR to 0x1001 turns it on, to 0x1000 off; a read
/// of 0x1000 says what came of that.
const SWITCHES: Plugin = Plugin {
    name: "switches",
    manifest: r#"
        needs.capabilities = ["intercept"]
        msr = [
            { range = "0x1000-0x1001", scope = "vm" },
            { range = "0xc0000100-0xc0000102", scope = "vm", intercept = "off" },
            { range = "0x2000-0x2fff", scope = "vm", access = "r", intercept = "off" },
        ]"#,
    code: r#"
        (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (global $result (mut i32) (i32.const 0))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1000))
                (then (return (i64.extend_i32_u (global.get $result)))))
            (i64.const 0xa))
        (writes
            (local $which i32)
            (if (i32.gt_u (local.get $msr) (i32.const 0x1001)) (then (return)))
            (local.set $which (i32.wrap_i64 (local.get $value)))
            (global.set $result (call $intercept
                (local.get $which) (local.get $which)
                (i32.const 1)
                (i32.and (local.get $msr) (i32.const 1)))))"#,
};

const GRANTED: &str = r#"grant = ["intercept"]"#;

#[apply(test)]
fn they_stop_and_begin_again() -> Outcome {
    Vm::new().plugin_with(&SWITCHES, GRANTED).prints(
        "
        w c0000100 5    -> ok
        r c0000100      -> 5
        w 1001 c0000100 -> ok
        r c0000100      -> a
        # Only reads were turned on.
        w c0000100 6    -> ok
        r c0000100      -> a
        r c0000102      -> 0
        w 1000 c0000100 -> ok
        r c0000100      -> 6
        w 1001 c0000100 -> ok
        r c0000100      -> a
        ",
    )
}

#[apply(test)]
fn other_vcpus_follow() -> Outcome {
    Vm::new().vcpus(2).plugin_with(&SWITCHES, GRANTED).prints(
        "
        cpu 1           -> ok
        w c0000102 5    -> ok
        r c0000102      -> 5
        cpu 0           -> ok
        w 1001 c0000102 -> ok
        cpu 1           -> ok
        r c0000102      -> a
        w 1000 c0000102 -> ok
        cpu 0           -> ok
        r c0000102      -> 0
        cpu 1           -> ok
        r c0000102      -> 5
        ",
    )
}

#[apply(test)]
fn a_part_of_a_range() -> Outcome {
    Vm::new().plugin_with(&SWITCHES, GRANTED).policy(r#"unknown = "ignore""#).prints(
        "
        r 2000      -> 0
        w 1001 2001 -> ok
        w 1001 2fff -> ok
        r 2000      -> 0
        r 2001      -> a
        r 2002      -> 0
        r 2fff      -> a
        r 3000      -> 0
        w 1000 2001 -> ok
        r 2001      -> 0
        r 2fff      -> a
        ",
    )
}

#[apply(test)]
fn only_its_own() -> Outcome {
    let bystander = Plugin {
        name: "bystander",
        manifest: r#"msr = [{ range = "0x3000", access = "r" }]"#,
        code: "(reads (i64.const 0xb))",
    };
    Vm::new().plugin_with(&SWITCHES, GRANTED).plugin(&bystander).prints(
        "
        w 1000 3000     -> ok
        r 1000          -> 1
        r 3000          -> b
        w 1001 10       -> ok
        r 1000          -> 1
        # The x2APIC's, which KVM cannot filter.
        w 1001 802      -> ok
        r 1000          -> 1
        w 1001 2000     -> ok
        r 1000          -> 0
        r 3000          -> b
        ",
    )
}

#[apply(test)]
fn the_capability_must_be_granted() -> Outcome {
    Vm::new().plugin(&SWITCHES).run("r 1000")?.refused(&["switches", "intercept"]);
    Ok(())
}

#[apply(test)]
fn a_boot_starts_with_the_manifests() -> Outcome {
    let boot = "
        r c0000102      -> 0
        w 1001 c0000102 -> ok
        r c0000102      -> a
        outb 64 fe      ->
        ";
    Vm::new()
        .plugin_with(&SWITCHES, GRANTED)
        .arguments(&["--max-boots", "2"])
        .run(boot)?
        .printed(&format!("{} {}", boot.trim_end(), boot.trim_start()))
        .exited(14);
    Ok(())
}

#[apply(test)]
fn an_access_that_turns_itself_off() -> Outcome {
    let once = Plugin {
        name: "once",
        manifest: r#"
            needs.capabilities = ["intercept"]
            msr = [{ range = "0xc0000102" }]"#,
        code: r#"
            (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
            (func $off
                (drop (call $intercept
                    (i32.const 0xc0000102) (i32.const 0xc0000102)
                    (i32.const 1) (i32.const 0))))
            (reads (call $off) (i64.const 0xa))
            (writes)"#,
    };
    Vm::new().plugin_with(&once, GRANTED).prints(
        "
        r c0000102   -> a
        r c0000102   -> 0
        w c0000102 5 -> ok
        r c0000102   -> 0
        ",
    )
}

#[apply(test)]
fn an_access_pending_on_another_vcpu() -> Outcome {
    // A write of 0x1000 puts 1 at the guest's 0x300000 and takes a second, at
    // whose end 0x2000 is turned off. A read of that meanwhile has to wait, and
    // then is told 1: too late for 0.
    let slow = Plugin {
        name: "slow",
        manifest: r#"
            needs.capabilities = ["intercept", "guest-memory"]
            msr = [
                { range = "0x1000", access = "w", scope = "vm" },
                { range = "0x2000", access = "r", scope = "vm" },
            ]"#,
        code: r#"
            (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
            (import "wasmsr" "guest_write" (func $tell (param i64 i32 i32) (result i32)))
            (import "wasmsr" "monotonic_ns" (func $now (result i64)))
            (data (i32.const 0) "\01")
            (global $turned_off (mut i64) (i64.const 0))
            (reads (global.get $turned_off))
            (writes
                (local $end i64)
                (local.set $end (i64.add (call $now) (i64.const 1000000000)))
                (drop (call $tell (i64.const 0x300000) (i32.const 0) (i32.const 8)))
                (loop $wait
                    (br_if $wait (i64.lt_u (call $now) (local.get $end))))
                (drop (call $intercept
                    (i32.const 0x2000) (i32.const 0x2000) (i32.const 1) (i32.const 0)))
                (global.set $turned_off (i64.const 1)))"#,
    };
    Vm::new()
        .vcpus(2)
        .plugin_with(&slow, "grant = [\"intercept\", \"guest-memory\"]\nfuel = 1000000000")
        .policy(r#"unknown = "ignore""#)
        .prints(
            "
            r 2000           -> 0
            aside 1 w 1000 1 -> ok
            await 300000     -> 1
            r 2000           -> 1
            join             -> ok
            r 2000           -> 0
            ",
        )
}
