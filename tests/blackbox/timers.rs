//! Timers of plugins: they go off at their time, whatever the guest does.

use crate::fixture::{Outcome, Plugin, Vm, apply, test};

/// A write of nanoseconds to 0x1000 sets the timer. Each time it goes off, it
/// counts, which 0x1001 shows, and puts the count at the guest's 0x300000 plus
/// 8 for each vCPU. As often as 0x1002 says, it then sets itself again, for at
/// once.
const ALARM: Plugin = Plugin {
    name: "alarm",
    manifest: r#"
        needs.capabilities = ["timer", "guest-memory"]
        msr = [{ range = "0x1000-0x1002" }]"#,
    code: r#"
        (import "wasmsr" "timer" (func $timer (param i64) (result i32)))
        (import "wasmsr" "monotonic_ns" (func $now (result i64)))
        (import "wasmsr" "guest_write" (func $write (param i64 i32 i32) (result i32)))
        (global $vcpu (mut i64) (i64.const 0))
        (global $count (mut i64) (i64.const 0))
        (global $more (mut i64) (i64.const 0))
        (func (export "init") (param $vcpu i32) (result i32)
            (global.set $vcpu (i64.extend_i32_u (local.get $vcpu)))
            (i32.const 0))
        (func (export "timer")
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (i64.store (i32.const 0) (global.get $count))
            (drop (call $write
                (i64.add (i64.const 0x300000) (i64.shl (global.get $vcpu) (i64.const 3)))
                (i32.const 0) (i32.const 8)))
            (if (i64.ne (global.get $more) (i64.const 0))
                (then
                    (global.set $more (i64.sub (global.get $more) (i64.const 1)))
                    (drop (call $timer (i64.const 0))))))
        (reads (global.get $count))
        (writes
            (if (i32.eq (local.get $msr) (i32.const 0x1002))
                (then (global.set $more (local.get $value)) (return)))
            (drop (call $timer (i64.add (call $now) (local.get $value)))))"#,
};

/// With `vcpus` vCPUs and the plugin.
fn vm(vcpus: u32) -> Vm {
    Vm::new().vcpus(vcpus).plugin_with(&ALARM, r#"grant = ["timer", "guest-memory"]"#)
}

// 2faf080 ns are 50 ms. `await` has no exits, so only the timer can end it.

#[apply(test)]
fn one_goes_off_while_the_guest_spins() -> Outcome {
    vm(1).prints("w 1000 2faf080 -> ok \n await 300000 -> 1 \n r 1001 -> 1")
}

#[apply(test)]
fn one_goes_off_while_its_vcpu_is_halted() -> Outcome {
    vm(2).prints(
        "
        cpu 1          -> ok
        w 1000 2faf080 -> ok
        cpu 0          -> ok
        aside 1 halt   -> ok
        await 300008   -> 1
        ",
    )
}

#[apply(test)]
fn one_goes_off_once() -> Outcome {
    vm(2).prints(
        "
        w 1000 f4240   -> ok
        await 300000   -> 1
        # Its time has passed; this one's comes later.
        cpu 1          -> ok
        w 1000 2faf080 -> ok
        await 300008   -> 1
        cpu 0          -> ok
        r 1001         -> 1
        ",
    )
}

#[apply(test)]
fn a_later_one_replaces_it() -> Outcome {
    // An hour, then 1 ms.
    vm(1).prints("w 1000 34630b8a000 -> ok \n w 1000 f4240 -> ok \n await 300000 -> 1")
}

#[apply(test)]
fn one_may_be_set_from_another() -> Outcome {
    vm(2).prints(
        "
        w 1002 13      -> ok
        w 1000 f4240   -> ok
        cpu 1          -> ok
        # A quarter of a second, for twenty times 1 ms.
        w 1000 ee6b280 -> ok
        await 300008   -> 1
        cpu 0          -> ok
        r 1001         -> 14
        ",
    )
}

#[apply(test)]
fn each_vcpu_has_its_own() -> Outcome {
    vm(2).prints(
        "
        w 1000 f4240   -> ok
        cpu 1          -> ok
        w 1000 f4240   -> ok
        await 300000   -> 1
        await 300008   -> 1
        r 1001         -> 1
        ",
    )
}
