//! A plugin that misbehaves hurts only its own accesses.

use wasmsr_interface::{MsrOp, Outcome, Reason};

use crate::fixture::{Setup, access, plugin, read, write};

/// Reads of 0x10 misbehave; reads of 0x11 give the number of accesses before
/// them that this instance has lived through.
fn misbehaving(body: &str) -> Vec<u8> {
    plugin(
        "bad",
        "[[msr]]\nrange = \"0x10-0x11\"",
        &format!(
            "(global $count (mut i64) (i64.const 0))
             (func $bad {body})
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
               (if (i32.eq (local.get 0) (i32.const 0x10)) (then (call $bad)))
               (global.get $count)
               (global.set $count (i64.add (global.get $count) (i64.const 1))))
             (func (export \"wrmsr\") (param i32 i64 i32 i32) (unreachable))"
        ),
    )
}

const FAILURES: &[(&str, &str)] = &[
    ("loops for ever", "(loop (br 0))"),
    (
        "fills memory for ever",
        "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0))",
    ),
    ("traps", "(unreachable)"),
    ("recurses", "(call $bad)"),
    ("divides by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"),
    ("reads out of bounds", "(drop (i32.load (i32.const -4)))"),
    ("allocates for ever", "(loop (drop (memory.grow (i32.const 1))) (br 0))"),
    (
        "allocates until it cannot",
        "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)",
    ),
];

#[test]
fn every_failure_is_a_fault_and_leaves_a_fresh_instance() {
    for (name, body) in FAILURES {
        let mut vcpu = Setup::new().with("bad.wasm", misbehaving(body), "").one();
        assert_eq!(read(&mut vcpu, 0x11), Outcome::Value(0), "{name}");
        assert_eq!(read(&mut vcpu, 0x11), Outcome::Value(1), "{name}");
        assert_eq!(read(&mut vcpu, 0x10), Outcome::Fault, "{name}");
        assert_eq!(read(&mut vcpu, 0x11), Outcome::Value(0), "{name}: the state is fresh");
    }
}

#[test]
fn on_failure_decides_the_outcome() {
    let outcome = |keys: &str| {
        let bytes = misbehaving("(unreachable)");
        read(&mut Setup::new().with("bad.wasm", bytes, keys).one(), 0x10)
    };
    assert_eq!(outcome("on-failure = \"fault\""), Outcome::Fault);
    assert_eq!(outcome("on-failure = \"kernel\""), Outcome::Kernel);
    assert_eq!(outcome("on-failure = \"ignore\""), Outcome::Value(0));
    let Outcome::Stop(text) = outcome("on-failure = \"stop\"") else { panic!("no stop") };
    for part in ["plugin bad", "read of 0x10", "unreachable"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_memory_ceiling_holds_and_is_named() {
    let body = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (unreachable)";
    let keys = "memory = \"192KiB\"\non-failure = \"stop\"";
    let mut vcpu = Setup::new().with("bad.wasm", misbehaving(body), keys).one();
    let Outcome::Stop(text) = read(&mut vcpu, 0x10) else { panic!("no stop") };
    assert!(text.contains("memory ceiling of 192.0 KiB"), "{text}");
}

#[test]
fn the_same_access_costs_the_same_fuel_every_time() {
    // 1 + 7 * n instructions for n order_lock: at the edge, one unit decides.
    let counted = "(local $n i32) (local.set $n (i32.const 100))
        (loop (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if 0 (local.get $n)))";
    let fits = |fuel: u32| {
        let keys = format!("fuel = {fuel}");
        let mut vcpu = Setup::new().with("bad.wasm", misbehaving(counted), &keys).one();
        let outcomes: Vec<_> = (0..3).map(|_| read(&mut vcpu, 0x10)).collect();
        assert!(outcomes.iter().all(|o| *o == outcomes[0] || matches!(o, Outcome::Value(_))));
        matches!(outcomes[0], Outcome::Value(_))
    };
    let edge = (2..2000).find(|&fuel| fits(fuel)).unwrap();
    assert!(edge > 300, "{edge}");
    assert!(!fits(edge - 1) && fits(edge));
}

/// wasmtime counts one per byte for a bulk instruction, so the sentence must not speak
/// of instructions alone.
#[test]
fn bulk_instructions_cost_a_unit_for_each_byte() {
    let fill = |bytes: u32, fuel: u32| {
        let body = format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {bytes}))");
        let keys = format!("memory = \"1MiB\"\nfuel = {fuel}\non-failure = \"stop\"");
        let bytes = misbehaving(&format!("(drop (memory.grow (i32.const 3))) {body}"));
        read(&mut Setup::new().with("bad.wasm", bytes, &keys).one(), 0x10)
    };
    assert_eq!(fill(99_000, 100_000), Outcome::Value(0));
    let Outcome::Stop(text) = fill(100_000, 100_000) else { panic!("no stop") };
    assert!(text.contains("fuel of 100000, which pays instructions, bytes that"), "{text}");
    assert_eq!(fill(100_000, 101_000), Outcome::Value(0));
}

/// wasmtime ends a call when the budget is used up, and looks where a function begins:
/// the function called costs 1, a further one 1 more beside its call.
#[test]
fn a_budget_pays_one_less_than_its_number() {
    let writes = |body: &str, fuel: u32| {
        let functions = "(func $empty) (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
             (i64.const 0))";
        let body = format!("{functions} (func (export \"wrmsr\") (param i32 i64 i32 i32) {body})");
        let bytes = plugin("p", "[[msr]]\nrange = \"0x10\"", &body);
        write(&mut Setup::new().with("p.wasm", bytes, &format!("fuel = {fuel}")).one(), 0x10, 0)
    };
    assert_eq!(writes("", 2), Outcome::Done);
    // 1 for `wrmsr`, 1 for the call, 1 for the function called.
    assert_eq!(writes("(call $empty)", 3), Outcome::Fault);
    assert_eq!(writes("(call $empty)", 4), Outcome::Done);
}

#[test]
fn a_function_in_which_fuel_is_not_looked_at_is_short() {
    let long = |body: &str| {
        let bytes = plugin(
            "long",
            "[[msr]]\nrange = \"0x10\"\naccess = \"r\"",
            &format!(
                "(import \"wasmsr\" \"tsc_khz\" (func (result i32)))
                 (func $short)
                 (func {body} (param i32 i32 i32) (result i64) (i64.const 1) {})",
                "(i64.const 1) (i64.add) ".repeat(50_000)
            ),
        );
        Setup::new().with("long.wasm", bytes, "").load().err().unwrap()
    };
    for (head, name) in [
        ("(export \"rdmsr\")", "function 2 (rdmsr) has 150004 bytes"),
        ("$spins (export \"rdmsr\")", "function 2 (spins) has 150004 bytes"),
    ] {
        let error = long(head);
        for part in ["long.wasm", name, "65536 are the most", "cut the function"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }
}

#[test]
fn a_plugin_that_fails_again_and_again_is_given_a_rest() {
    let bytes = misbehaving("(unreachable)");
    let (mut started, _) = Setup::new().with("bad.wasm", bytes, "").start(1);
    for _ in 0..1000 {
        assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Fault);
    }
    let rows = started.metrics.msrs();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].reads, rows[0].faults, rows[0].failures), (1000, 1000, 1000));
    // While it backs off it does not answer; afterwards it does, from a fresh instance.
    let recovered = (0..100).any(|_| read(&mut started.vcpus[0], 0x11) == Outcome::Value(0));
    assert!(recovered);
}

#[test]
fn a_guest_cannot_hide_a_plugin_behind_unknown_msrs() {
    let bytes = misbehaving("(unreachable)");
    let (mut started, _) = Setup::new().with("bad.wasm", bytes, "").start(1);
    let vcpu = &mut started.vcpus[0];
    for index in 0..2000 {
        let _ = access(vcpu, 0x8000 + index, MsrOp::Read, Reason::Unknown);
    }
    let _ = read(vcpu, 0x11);
    let _ = read(vcpu, 0x10);
    let rows = started.metrics.msrs();
    let of = |plugin: Option<&str>| {
        let rows = rows.iter().filter(|row| row.plugin.as_deref() == plugin);
        rows.fold((0, 0), |(reads, failures), row| (reads + row.reads, failures + row.failures))
    };
    assert_eq!((of(Some("bad")), of(None)), ((2, 1), (2000, 0)));
    assert!(rows.len() < 1024, "{}", rows.len());
}

#[test]
fn one_plugins_failure_is_no_other_plugins() {
    let good = plugin(
        "good",
        "[[msr]]\nrange = \"0x20\"",
        "(global $value (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $value))
         (func (export \"wrmsr\") (param i32 i64 i32 i32) (global.set $value (local.get 1)))",
    );
    let bad = misbehaving("(unreachable)");
    let mut vcpu = Setup::new().with("good.wasm", good, "").with("bad.wasm", bad, "").one();
    assert_eq!(write(&mut vcpu, 0x20, 42), Outcome::Done);
    assert_eq!(read(&mut vcpu, 0x10), Outcome::Fault);
    assert_eq!(read(&mut vcpu, 0x20), Outcome::Value(42));
}

#[test]
fn a_start_function_and_init_are_limited_too() {
    for body in [
        "(func $spin (loop (br 0))) (start $spin)",
        "(func (export \"init\") (param i32) (result i32) (loop (br 0)) (i32.const 0))",
    ] {
        let body = format!(
            "{body} (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))"
        );
        let bytes = plugin("spins", "[[msr]]\nrange = \"1\"\naccess = \"r\"", &body);
        let engine = Setup::new().with("spins.wasm", bytes, "").load().unwrap();
        let error = engine.dry_run(1).unwrap_err().to_string();
        assert!(error.contains("fuel of 10000000"), "{error}");
    }
}
