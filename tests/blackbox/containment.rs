//! Plugins that fail: what the guest meets, and what goes on working.

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// Counts the reads of 0x1000; every other MSR makes it fail in its own way.
const UNRULY: Plugin = Plugin {
    name: "unruly",
    manifest: r#"msr = [{ range = "0x1000-0x1004", access = "rw" }]"#,
    code: UNRULY_CODE,
};

const UNRULY_CODE: &str = "
    (global $reads (mut i64) (i64.const 0))
    (reads
        (call $fail (local.get $msr))
        (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
        (global.get $reads))
    (writes (call $fail (local.get $msr)))
    (func $fail (param $msr i32)
        (if (i32.eq (local.get $msr) (i32.const 0x1001))
            (then (loop $for_ever (br $for_ever))))
        (if (i32.eq (local.get $msr) (i32.const 0x1002))
            (then (loop $more (drop (memory.grow (i32.const 1))) (br $more))))
        (if (i32.eq (local.get $msr) (i32.const 0x1003))
            (then (unreachable)))
        (if (i32.eq (local.get $msr) (i32.const 0x1004))
            (then (call $fail (local.get $msr)))))";

/// Counts reads of its own.
const BYSTANDER: Plugin = Plugin {
    name: "bystander",
    manifest: r#"msr = [{ range = "0x2000", access = "r" }]"#,
    code: "
        (global $reads (mut i64) (i64.const 0))
        (reads
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))",
};

/// An access to `msr` must fault, and cost the plugin its state and nothing else.
#[track_caller]
fn faults(msr: &str) -> Outcome {
    Vm::new().plugin(&UNRULY).plugin(&BYSTANDER).prints(&format!(
        "
        r 1000   -> 1
        r 1000   -> 2
        r 2000   -> 1
        r {msr}  -> fault
        r 1000   -> 1
        r 1000   -> 2
        w {msr} 5 -> fault
        r 1000   -> 1
        r 2000   -> 2
        "
    ))
}

#[apply(test)]
fn a_loop_for_ever_faults() -> Outcome {
    faults("1001")
}

#[apply(test)]
fn allocation_without_end_faults() -> Outcome {
    faults("1002")
}

#[apply(test)]
fn a_trap_faults() -> Outcome {
    faults("1003")
}

#[apply(test)]
fn recursion_without_end_faults() -> Outcome {
    faults("1004")
}

#[apply(test)]
fn on_failure_ignore() -> Outcome {
    Vm::new().plugin_with(&UNRULY, r#"on-failure = "ignore""#).prints(
        "
        r 1000   -> 1
        r 1003   -> 0
        w 1003 5 -> ok
        r 1000   -> 1
        ",
    )
}

#[apply(test)]
fn on_failure_kernel() -> Outcome {
    let traps = Plugin {
        name: "traps",
        manifest: r#"msr = [{ range = "0xc0000102" }, { range = "0x1003" }]"#,
        code: "(reads (unreachable)) (writes (unreachable))",
    };
    Vm::new().plugin_with(&traps, r#"on-failure = "kernel""#).prints(
        "
        w c0000102 5 -> ok
        r c0000102   -> 5
        # KVM refuses both.
        w c0000102 8000000000000000 -> fault
        r 1003       -> fault
        r c0000102   -> 5
        ",
    )
}

#[apply(test)]
fn on_failure_stop() -> Outcome {
    Vm::new()
        .plugin_with(&UNRULY, r#"on-failure = "stop""#)
        .run("r 1000 -> 1 \n r 1003 ->")?
        .printed("r 1000 -> 1 \n r 1003 ->")
        .exited(10)
        .said(&["wasmsr: ", "unruly", "0x1003", "vCPU 0"]);
    Ok(())
}

#[apply(test)]
fn repeated_failures_let_a_plugin_rest() -> Outcome {
    // While it backs off, every access to its MSRs is a failure; one access after
    // another, it comes to be asked again.
    Vm::new().plugin(&UNRULY).plugin(&BYSTANDER).prints(
        "
        times 100 r 1003 -> fault
        r 1000           -> fault
        r 2000           -> 1
        times 100 r 1000 -> ?
        r 1000           -> ?
        ",
    )
}

#[apply(test)]
fn a_failure_resets_one_vcpu_alone() -> Outcome {
    Vm::new().vcpus(2).plugin(&UNRULY).prints(
        "
        r 1000 -> 1
        cpu 1  -> ok
        r 1000 -> 1
        r 1003 -> fault
        r 1000 -> 1
        cpu 0  -> ok
        r 1000 -> 2
        ",
    )
}

#[apply(test)]
fn a_failure_resets_a_vm_plugin_for_all() -> Outcome {
    let shared = Plugin {
        name: "shared",
        manifest: r#"msr = [{ range = "0x1000-0x1004", scope = "vm" }]"#,
        code: UNRULY_CODE,
    };
    Vm::new().vcpus(2).plugin(&shared).prints(
        "
        r 1000 -> 1
        cpu 1  -> ok
        r 1000 -> 2
        r 1003 -> fault
        cpu 0  -> ok
        r 1000 -> 1
        ",
    )
}

/// Turns a loop 100 times a read.
const BUSY: Plugin = Plugin {
    name: "busy",
    manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
    code: "
        (reads
            (local $turns i64)
            (loop $again
                (local.set $turns (i64.add (local.get $turns) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $turns) (i64.const 100))))
            (local.get $turns))",
};

#[apply(test)]
fn little_fuel_is_too_little() -> Outcome {
    Vm::new().plugin_with(&BUSY, "fuel = 100").prints("r 1000 -> fault")
}

#[apply(test)]
fn much_fuel_is_enough() -> Outcome {
    // The budget is each call's own.
    Vm::new().plugin_with(&BUSY, "fuel = 2000").prints("times 100 r 1000 -> 64")
}

#[apply(test)]
fn memory_up_to_the_ceiling() -> Outcome {
    let greedy = Plugin {
        name: "greedy",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: "(reads (i64.extend_i32_s (memory.grow (i32.const 1))))",
    };
    // Pages of 64 KiB; the first is there from the start.
    Vm::new().plugin_with(&greedy, r#"memory = "192KiB""#).prints(
        "
        r 1000 -> 1
        r 1000 -> 2
        r 1000 -> ffffffffffffffff
        r 1000 -> ffffffffffffffff
        ",
    )
}
