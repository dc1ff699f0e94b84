//! The outcomes a plugin may ask for, and which plugin is asked next.

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// Asks for the outcome that the MSR's last digit says: 1 fault, 2 pass,
/// 3 kernel, none else.
const ASKS: Plugin = Plugin {
    name: "asks",
    manifest: r#"msr = [{ range = "0x1000-0x1009" }, { range = "0xc0000102" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads
            (call $ask (local.get $msr))
            (i64.const 0xa))
        (writes (call $ask (local.get $msr)))
        (func $ask (param $msr i32)
            (if (i32.eq (local.get $msr) (i32.const 0xc0000102))
                (then (call $outcome (i32.const 3)) (return)))
            (if (i32.and (local.get $msr) (i32.const 15))
                (then (call $outcome (i32.and (local.get $msr) (i32.const 15))))))"#,
};

/// Answers 0xb, and takes writes.
const ANSWERS: Plugin =
    Plugin { name: "answers", manifest: r#"msr = [{ range = "0x1000-0x1009" }]"#, code: ANSWER };

const ANSWER: &str = "(reads (i64.const 0xb)) (writes)";

#[apply(test)]
fn each_outcome() -> Outcome {
    Vm::new().plugin(&ASKS).prints(
        "
        r 1000       -> a
        w 1000 1     -> ok
        r 1001       -> fault
        w 1001 1     -> fault
        r 1003       -> fault
        w c0000102 5 -> ok
        r c0000102   -> 5
        w c0000102 8000000000000000 -> fault
        r c0000102   -> 5
        ",
    )
}

#[apply(test)]
fn the_last_outcome_wins() -> Outcome {
    let hesitant = Plugin {
        name: "hesitant",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "outcome" (func $outcome (param i32)))
            (reads
                (call $outcome (i32.const 1))
                (call $outcome (i32.const 2))
                (i64.const 0))"#,
    };
    Vm::new().plugin(&hesitant).policy(r#"unknown = "ignore""#).prints("r 1000 -> 0")
}

#[apply(test)]
fn an_unknown_outcome_is_a_failure() -> Outcome {
    Vm::new()
        .plugin_with(&ASKS, r#"on-failure = "ignore""#)
        .prints("r 1009 -> 0 \n r 1001 -> fault")
}

#[apply(test)]
fn passing_on_ends_at_the_policy() -> Outcome {
    Vm::new()
        .plugin(&ASKS)
        .policy(r#"unknown = "ignore""#)
        .prints("r 1002 -> 0 \n w 1002 1 -> ok \n r 1001 -> fault")
}

#[apply(test)]
fn passing_on_reaches_the_fallback() -> Outcome {
    Vm::new().plugin(&ASKS).plugin_with(&ANSWERS, "fallback = true").prints(
        "
        r 1000   -> a
        r 1002   -> b
        w 1002 1 -> ok
        r 1001   -> fault
        ",
    )
}

#[apply(test)]
fn a_fallback_alone_is_asked_first() -> Outcome {
    Vm::new().plugin_with(&ANSWERS, "fallback = true").prints("r 1000 -> b")
}

#[apply(test)]
fn a_fallback_covers_a_part() -> Outcome {
    let reads = Plugin {
        name: "reads",
        manifest: r#"msr = [{ range = "0x1002-0x1005", access = "r" }]"#,
        code: ANSWER,
    };
    Vm::new().plugin(&ASKS).plugin_with(&reads, "fallback = true").prints(
        "
        r 1000   -> a
        r 1002   -> b
        w 1002 1 -> fault
        ",
    )
}

#[apply(test)]
fn kernel_skips_the_fallback() -> Outcome {
    Vm::new().plugin(&ASKS).plugin_with(&ANSWERS, "fallback = true").prints("r 1003 -> fault")
}

#[apply(test)]
fn the_kernel_from_its_version_on() -> Outcome {
    let base =
        Plugin { name: "base", manifest: r#"msr = [{ range = "0xc0000102" }]"#, code: ANSWER };
    Vm::new().plugin_with(&base, r#"kernel-from = "99.0""#).prints("r c0000102 -> b")?;
    Vm::new().plugin_with(&base, r#"kernel-from = "5.10""#).prints("r c0000102 -> 0")
}

/// Is offered what no other plugin takes; answers 0xc but for 0xdead0002, which it
/// passes on.
const LAST: Plugin = Plugin {
    name: "last",
    manifest: r#"unhandled.reasons = ["unknown", "invalid"]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0xdead0002))
                (then (call $outcome (i32.const 2))))
            (i64.const 0xc))
        (writes)"#,
};

#[apply(test)]
fn the_unhandled_come_last() -> Outcome {
    Vm::new().plugin(&LAST).plugin(&ASKS).prints(
        "
        r deadbeef   -> c
        w deadbeef 1 -> ok
        w 2ff 2      -> ok
        r 1000       -> a
        r 1001       -> fault
        ",
    )
}

#[apply(test)]
fn the_unhandled_pass_on_to_the_policy() -> Outcome {
    Vm::new().plugin(&LAST).prints("r dead0001 -> c \n r dead0002 -> fault")
}
