//! What a plugin may ask of its host.

use crate::fixture::{Outcome, Plugin, Vm, apply, guest_exit, has_host_msrs, test};

#[apply(test)]
fn log() -> Outcome {
    let talks = Plugin {
        name: "talks",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "log" (func $log (param i32 i32 i32)))
            (data (i32.const 16) "seen once")
            (reads
                (call $log (i32.const 2) (i32.const 16) (i32.const 9))
                (i64.const 1))"#,
    };
    Vm::new()
        .plugin(&talks)
        .run("r 1000")?
        .printed("r 1000 -> 1")
        .exited(guest_exit(0))
        .said(&["talks", "seen once"]);
    Ok(())
}

/// 0x1000 is the length of the configuration, 0x1001 its first 8 bytes.
const CONFIGURED: Plugin = Plugin {
    name: "configured",
    manifest: r#"msr = [{ range = "0x1000-0x1001", access = "r" }]"#,
    code: r#"
        (import "wasmsr" "config" (func $config (param i32 i32) (result i32)))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1000))
                (then (return (i64.extend_i32_u (call $config (i32.const 0) (i32.const 0))))))
            (drop (call $config (i32.const 16) (i32.const 8)))
            (i64.load (i32.const 16)))"#,
};

#[apply(test)]
fn configuration() -> Outcome {
    // {"value":43} and, as the bytes come, {"value"
    Vm::new()
        .plugin_with(&CONFIGURED, "config = { value = 0x2b }")
        .prints("r 1000 -> c \n r 1001 -> 2265756c6176227b")
}

#[apply(test)]
fn no_configuration() -> Outcome {
    Vm::new().plugin(&CONFIGURED).prints("r 1000 -> 2 \n r 1001 -> 7d7b")
}

/// 0x1000 is an address, 0x1001 the 8 bytes of guest memory there, 0x1002 what
/// the last of these accesses came to.
const PEEKS: Plugin = Plugin {
    name: "peeks",
    manifest: r#"
        msr = [{ range = "0x1000-0x1002" }]
        needs.capabilities = ["guest-memory"]"#,
    code: r#"
        (import "wasmsr" "guest_read" (func $read (param i64 i32 i32) (result i32)))
        (import "wasmsr" "guest_write" (func $write (param i64 i32 i32) (result i32)))
        (global $address (mut i64) (i64.const 0))
        (global $result (mut i32) (i32.const 0))
        (reads
            (if (i32.eq (local.get $msr) (i32.const 0x1002))
                (then (return (i64.extend_i32_u (global.get $result)))))
            (global.set $result
                (call $read (global.get $address) (i32.const 16) (i32.const 8)))
            (i64.load (i32.const 16)))
        (writes
            (if (i32.eq (local.get $msr) (i32.const 0x1000))
                (then (global.set $address (local.get $value)) (return)))
            (i64.store (i32.const 16) (local.get $value))
            (global.set $result
                (call $write (global.get $address) (i32.const 16) (i32.const 8))))"#,
};

const GRANTED: &str = r#"grant = ["guest-memory"]"#;

#[apply(test)]
fn guest_memory() -> Outcome {
    Vm::new().plugin_with(&PEEKS, GRANTED).prints(
        "
        w 1000 300000              -> ok
        w 1001 123456789abcdef0    -> ok
        r 1002                     -> 0
        peek 300000                -> 123456789abcdef0
        poke 300000 5678           -> ok
        r 1001                     -> 5678
        ",
    )
}

#[apply(test)]
fn guest_memory_ends() -> Outcome {
    // At 128 MiB; the last 8 bytes are within, one byte further is not.
    Vm::new().plugin_with(&PEEKS, GRANTED).prints(
        "
        w 1000 7fffff8          -> ok
        w 1001 1                -> ok
        r 1002                  -> 0
        w 1000 7fffff9          -> ok
        w 1001 ffffffffffffffff -> ok
        r 1002                  -> 1
        peek 7fffff8            -> 1
        w 1000 ffffffffffffffff -> ok
        w 1001 1                -> ok
        r 1002                  -> 1
        r 1001                  -> ?
        r 1002                  -> 1
        ",
    )
}

#[apply(test)]
fn kvm_msr() -> Outcome {
    let plugin = Plugin {
        name: "adjusts",
        manifest: r#"
            msr = [{ range = "0xc0000102" }, { range = "0x1000" }]
            needs.capabilities = ["kvm-msr"]"#,
        code: r#"
            (import "wasmsr" "kvm_rdmsr" (func $read (param i32 i32) (result i32)))
            (import "wasmsr" "kvm_wrmsr" (func $write (param i32 i64) (result i32)))
            (reads
                (if (call $read (local.get $msr) (i32.const 16))
                    (then (return (i64.const -1))))
                (i64.add (i64.load (i32.const 16)) (i64.const 1)))
            (writes (drop (call $write (local.get $msr) (local.get $value))))"#,
    };
    Vm::new().vcpus(2).plugin_with(&plugin, r#"grant = ["kvm-msr"]"#).prints(
        "
        w c0000102 5 -> ok
        r c0000102   -> 6
        r 1000       -> ffffffffffffffff
        cpu 1        -> ok
        r c0000102   -> 1
        ",
    )
}

#[apply(test)]
fn host_msr() -> Outcome {
    // 0x1b is IA32_APIC_BASE, never 0. A read of the plugin's own MSR says
    // what came of reading the physical CPU's: the value is none of the test's.
    let plugin = Plugin {
        name: "asks",
        manifest: r#"
            msr = [{ range = "0x1b-0x1c", access = "r" }]
            needs.capabilities = ["host-msr:0x1b"]"#,
        code: r#"
            (import "wasmsr" "host_rdmsr" (func $read (param i32 i32) (result i32)))
            (reads
                (if (call $read (local.get $msr) (i32.const 16))
                    (then (return (i64.const 1))))
                (i64.extend_i32_u (i64.eqz (i64.load (i32.const 16)))))"#,
    };
    let granted = if has_host_msrs() { "0" } else { "1" };
    Vm::new()
        .plugin_with(&plugin, r#"grant = ["host-msr:0x1b-0x20"]"#)
        .prints(&format!("r 1b -> {granted} \n r 1c -> 1"))?;
    Vm::new()
        .plugin_with(&plugin, r#"grant = ["host-msr:0x1c"]"#)
        .run("r 1b")?
        .refused(&["asks", "host-msr:0x1b"]);
    Ok(())
}

#[apply(test)]
fn clocks_go_forward() -> Outcome {
    // 1 if all clocks are where they must be after the access before.
    let plugin = Plugin {
        name: "clocks",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "tsc" (func $tsc (result i64)))
            (import "wasmsr" "tsc_khz" (func $tsc_khz (result i32)))
            (import "wasmsr" "monotonic_ns" (func $monotonic_ns (result i64)))
            (global $last_tsc (mut i64) (i64.const 0))
            (global $last_ns (mut i64) (i64.const 0))
            (reads
                (local $tsc i64) (local $ns i64)
                (local.set $tsc (call $tsc))
                (local.set $ns (call $monotonic_ns))
                (i64.extend_i32_u (i32.and
                    (i32.gt_u (call $tsc_khz) (i32.const 1000))
                    (i32.and
                        (i64.gt_u (local.get $tsc) (global.get $last_tsc))
                        (i64.ge_u (local.get $ns) (global.get $last_ns)))))
                (global.set $last_tsc (local.get $tsc))
                (global.set $last_ns (local.get $ns)))"#,
    };
    Vm::new().plugin(&plugin).prints("r 1000 -> 1 \n r 1000 -> 1 \n times 100 r 1000 -> 1")
}

#[apply(test)]
fn the_clock_is_the_guests() -> Outcome {
    let plugin = Plugin {
        name: "clock",
        manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "tsc" (func $tsc (result i64)))
            (reads (call $tsc))"#,
    };
    let run = Vm::new().plugin(&plugin).run("r 10 \n r 1000 \n r 10 \n r 1000")?;
    let times: Vec<u64> = run
        .stdout
        .lines()
        .filter_map(|line| u64::from_str_radix(line.split_once("-> ")?.1, 16).ok())
        .collect();
    assert!(times.len() == 4 && times.is_sorted(), "the guest's clock and the plugin's:\n{run}");
    Ok(())
}

#[apply(test)]
fn a_pointer_outside_the_plugin_is_a_failure() -> Outcome {
    let plugin = Plugin {
        name: "stray",
        manifest: r#"msr = [{ range = "0x1000-0x1001", access = "r" }]"#,
        code: r#"
            (import "wasmsr" "config" (func $config (param i32 i32) (result i32)))
            (reads
                (if (i32.eq (local.get $msr) (i32.const 0x1000))
                    (then (drop (call $config (i32.const 0xfffffff0) (i32.const 0x20)))))
                (i64.const 1))"#,
    };
    Vm::new().plugin(&plugin).prints("r 1000 -> fault \n r 1001 -> 1")
}

/// Keeps what `init` was told; refuses it if it is 1.
const STARTS: Plugin = Plugin {
    name: "starts",
    manifest: r#"msr = [
        { range = "0x1000", access = "r", scope = "vcpu" },
        { range = "0x1001", access = "r", scope = "vm" },
    ]"#,
    code: r#"
        (import "wasmsr" "log" (func $log (param i32 i32 i32)))
        (data (i32.const 16) "vcpu 1 is not to my taste")
        (global $vcpu (mut i32) (i32.const 99))
        (func (export "init") (param $vcpu i32) (result i32)
            (global.set $vcpu (local.get $vcpu))
            (if (result i32) (i32.eq (local.get $vcpu) (i32.const 1))
                (then
                    (call $log (i32.const 1) (i32.const 16) (i32.const 25))
                    (i32.const 1))
                (else (i32.const 0))))
        (reads (i64.extend_i32_s (global.get $vcpu)))"#,
};

#[apply(test)]
fn init_is_told_the_vcpu() -> Outcome {
    Vm::new().plugin(&STARTS).prints("r 1000 -> 0 \n r 1001 -> ffffffffffffffff")
}

#[apply(test)]
fn init_may_refuse_the_configuration() -> Outcome {
    Vm::new()
        .vcpus(2)
        .plugin(&STARTS)
        .run("r 1000")?
        .refused(&["starts", "vcpu 1 is not to my taste"]);
    Ok(())
}
