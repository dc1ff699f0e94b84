//! Guests and plugins that mean harm: the log stays short, and the run goes
//! on.

use crate::fixture::{Outcome, Plugin, Run, Vm, apply, guest_exit, test};

/// The most that a run may say, whatever happens in it.
const LONGEST_LOG: usize = 64 << 10;

/// The run must end well, having said little.
#[track_caller]
fn bounded(run: Run, transcript: &str) -> Outcome {
    let run = run.printed(transcript).exited(guest_exit(0));
    let length = run.stderr.len();
    assert!(length < LONGEST_LOG, "{length} bytes on standard error:\n{run}");
    Ok(())
}

/// `vm` must take all of `transcript` with little to say.
#[track_caller]
fn takes(vm: Vm, transcript: &str) -> Outcome {
    bounded(vm.run(transcript)?, transcript)
}

#[apply(test)]
fn a_flood_of_unknown_ports() -> Outcome {
    takes(
        Vm::new(),
        "
        times 400 inb 5555       -> ff
        times 400 inl 5555       -> ffffffff
        times 400 outb 5555 1    -> ok
        times 400 outl 5555 1    -> ok
        inb ffff                  -> ff
        ",
    )
}

#[apply(test)]
fn nonsense_in_the_power_registers() -> Outcome {
    takes(
        Vm::new(),
        "
        times 400 outl 600 ffffffff -> ok
        inl 600                     -> ffff0000
        times 400 outw 603 1ff      -> ok
        times 400 outl 602 0        -> ok
        times 400 outb 601 ff       -> ok
        times 400 outb 603 1        -> ok
        inl 600                     -> 1000000
        times 400 outw 604 1fff     -> ok
        inl 604                     -> 1
        outl 5fe ffffffff           -> ok
        inl 602                     -> 100
        ",
    )
}

#[apply(test)]
fn a_flood_of_unknown_memory() -> Outcome {
    takes(
        Vm::new(),
        "
        times 400 peek e0000000   -> ffffffffffffffff
        times 400 poke e0000000 1 -> ok
        ",
    )
}

#[apply(test)]
fn a_flood_of_unknown_msrs() -> Outcome {
    takes(
        Vm::new().policy(r#"unknown = "ignore""#),
        "
        times 400 r deadbeef   -> 0
        times 400 w deadbeef 1 -> ok
        ",
    )
}

#[apply(test)]
fn a_flood_of_refused_msrs() -> Outcome {
    takes(
        Vm::new(),
        "
        times 400 r deadbeef   -> fault
        times 400 w deadbeef 1 -> fault
        times 400 w 2ff 2      -> fault
        ",
    )
}

#[apply(test)]
fn a_flood_of_different_msrs() -> Outcome {
    let collects = Plugin {
        name: "collects",
        manifest: r#"unhandled.reasons = ["unknown"]"#,
        code: "(reads (i64.const 7)) (writes)",
    };
    takes(Vm::new().plugin(&collects), "sweep 10000000 4000 -> 7")?;
    takes(Vm::new().policy(r#"unknown = "ignore""#), "sweep 10000000 4000 -> 0")
}

#[apply(test)]
fn a_flood_of_failures() -> Outcome {
    let traps = Plugin {
        name: "traps",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: "(reads (unreachable))",
    };
    takes(Vm::new().plugin(&traps), "times 400 r 1000 -> fault")
}

#[apply(test)]
fn a_flood_of_log_lines() -> Outcome {
    let talks = Plugin {
        name: "talks",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "log" (func $log (param i32 i32 i32)))
            (reads
                (local $lines i32)
                (loop $more
                    (call $log (i32.const 1) (i32.const 0) (i32.const 80))
                    (local.set $lines (i32.add (local.get $lines) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $lines) (i32.const 100))))
                (i64.const 1))"#,
    };
    takes(Vm::new().plugin(&talks), "times 1000 r 1000 -> 1")
}

#[apply(test)]
fn a_flood_of_log_lines_before_failures() -> Outcome {
    // Every other access fails, so that it never rests, and each time a fresh
    // instance is the next to talk.
    let talks = Plugin {
        name: "talks",
        manifest: r#"msr = [{ range = "0x1000-0x1001", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "log" (func $log (param i32 i32 i32)))
            (reads
                (local $lines i32)
                (loop $more
                    (call $log (i32.const 2) (i32.const 0) (i32.const 80))
                    (local.set $lines (i32.add (local.get $lines) (i32.const 1)))
                    (br_if $more (i32.lt_u (local.get $lines) (i32.const 20))))
                (if (i32.and (local.get $msr) (i32.const 1)) (then unreachable))
                (i64.const 1))"#,
    };
    takes(Vm::new().plugin(&talks), "times 400 sweep 1000 2 -> fault")
}

#[apply(test)]
fn a_log_line_without_end() -> Outcome {
    let talks = Plugin {
        name: "talks",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "log" (func $log (param i32 i32 i32)))
            (reads
                (memory.fill (i32.const 0) (i32.const 0x78) (i32.const 0x10000))
                (call $log (i32.const 1) (i32.const 0) (i32.const 0x10000))
                (i64.const 1))"#,
    };
    takes(Vm::new().plugin(&talks), "r 1000 -> 1")
}

#[apply(test)]
fn a_log_line_that_forges_others() -> Outcome {
    let forges = Plugin {
        name: "forges",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "log" (func $log (param i32 i32 i32)))
            (data (i32.const 0) "one\nwasmsr: all is well\r\1b[2J\ff")
            (reads
                (call $log (i32.const 1) (i32.const 0) (i32.const 29))
                (i64.const 1))"#,
    };
    let run = Vm::new().plugin(&forges).run("r 1000")?.exited(guest_exit(0)).said(&["one"]);
    let forged = run.stderr.lines().any(|line| line.starts_with("wasmsr: all is well"));
    assert!(!forged, "a plugin wrote a line of its own:\n{run}");
    assert!(!run.stderr.contains(['\x1b', '\r']), "a plugin steers the terminal:\n{run}");
    Ok(())
}

#[apply(test)]
fn intercepts_that_never_rest() -> Outcome {
    let toggles = Plugin {
        name: "toggles",
        manifest: r#"
            needs.capabilities = ["intercept"]
            msr = [
                { range = "0x1000", access = "r" },
                { range = "0xc0000102", intercept = "off" },
            ]"#,
        code: r#"
            (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
            (global $on (mut i32) (i32.const 0))
            (reads
                (global.set $on (i32.eqz (global.get $on)))
                (i64.extend_i32_u (call $intercept
                    (i32.const 0xc0000102) (i32.const 0xc0000102)
                    (i32.const 3) (global.get $on))))
            (writes)"#,
    };
    takes(
        Vm::new().vcpus(2).plugin_with(&toggles, r#"grant = ["intercept"]"#),
        "
        aside 1 times 400 r c0000102 -> ok
        times 400 r 1000             -> 0
        join                         -> 0
        times 400 r 1000             -> 0
        ",
    )
}

#[apply(test)]
fn intercepts_in_ever_smaller_pieces() -> Outcome {
    // Every other MSR of its range, until it is refused (2).
    let splits = Plugin {
        name: "splits",
        manifest: r#"
            needs.capabilities = ["intercept"]
            msr = [
                { range = "0x1000", access = "r" },
                { range = "0x10000-0x1ffff", access = "r", intercept = "off" },
            ]"#,
        code: r#"
            (import "wasmsr" "intercept" (func $intercept (param i32 i32 i32 i32) (result i32)))
            (global $next (mut i32) (i32.const 0x10000))
            (reads
                (if (i32.ne (local.get $msr) (i32.const 0x1000))
                    (then (return (i64.const 0xa))))
                (global.set $next (i32.add (global.get $next) (i32.const 2)))
                (i64.extend_i32_u (call $intercept
                    (global.get $next) (global.get $next) (i32.const 1) (i32.const 1))))"#,
    };
    takes(
        Vm::new().plugin_with(&splits, r#"grant = ["intercept"]"#),
        "
        times 200 r 1000 -> 0
        r 10002          -> a
        times 400 r 1000 -> 2
        r 10002          -> a
        r 10003          -> fault
        ",
    )
}

#[apply(test)]
fn a_timer_that_never_rests() -> Outcome {
    let restless = Plugin {
        name: "restless",
        manifest: r#"
            needs.capabilities = ["timer"]
            msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "timer" (func $timer (param i64) (result i32)))
            (func (export "timer") (drop (call $timer (i64.const 0))))
            (reads (i64.extend_i32_u (call $timer (i64.const 0))))"#,
    };
    takes(
        Vm::new().vcpus(2).plugin_with(&restless, r#"grant = ["timer"]"#),
        "
        r 1000            -> 0
        cpu 1             -> ok
        times 400 r 1000  -> 0
        times 4000 inb 80 -> ff
        ",
    )
}
