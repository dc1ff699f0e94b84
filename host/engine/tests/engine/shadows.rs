//! Shadows: what they see, and that nobody sees them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmsr_engine::msr::{MsrOp, Outcome, Reason};
use wasmsr_engine::{Host, MsrHandler, ShadowCounts, Started};

use crate::busy::{GRANT, busy};
use crate::fixture::{Setup, TestHost, access, plugin, read, write};

const CLAIM: &str = "[[msr]]\nrange = \"0x10\"\naccess = \"rw\"";

/// A plugin whose reads and writes have these bodies.
fn simple(name: &str, manifest: &str, read: &str, write: &str) -> Vec<u8> {
    let body = format!(
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {read})
         (func (export \"wrmsr\") (param i32 i64 i32 i32) {write})"
    );
    plugin(name, manifest, &body)
}

/// `p` in charge and a shadow of it.
fn setup(in_charge: Vec<u8>, shadow: Vec<u8>, keys: &str) -> Setup {
    let shadow_keys = format!("shadow-of = \"p\"\n{keys}");
    Setup::new().with("p.wasm", in_charge, keys).with("s.wasm", shadow, &shadow_keys)
}

fn ticking(setup: &Setup, vcpus: u32) -> (Started, Arc<TestHost>) {
    let host = Arc::new(TestHost::default());
    host.tick.store(1_000, Ordering::Relaxed);
    let shared: Arc<dyn Host> = host.clone();
    (setup.load().unwrap().start(&shared, vcpus).unwrap(), host)
}

fn counts(started: &Started) -> ShadowCounts {
    started.shadows.counts().remove(0)
}

#[test]
fn a_shadow_of_the_same_code_never_differs_though_time_goes_on() {
    for scope in ["vcpu", "vm"] {
        let setup = setup(busy("p", scope, 0), busy("p", scope, 0), GRANT);
        let (mut started, host) = ticking(&setup, 2);
        for round in 0..200 {
            host.memory.lock().unwrap()[0x1000] ^= 7;
            for vcpu in &mut started.vcpus {
                let _ = read(vcpu, 0x10);
                let _ = write(vcpu, 0x10, round);
                let _ = read(vcpu, 0x12);
            }
        }
        let _ = write(&mut started.vcpus[0], 0x10, 0xdead);
        let counts = counts(&started);
        assert_eq!((counts.accesses, counts.failures), (1201, 1), "{scope}");
        assert_eq!((counts.answers, counts.effects, counts.unclaimed), (0, 0, 0), "{counts:?}");
        assert!(counts.mean().is_some() && counts.mean_in_charge().is_some());
    }
}

#[test]
fn the_guest_sees_the_plugin_in_charge_alone() {
    let shadows = [
        simple("s", CLAIM, "(i64.const 2)", "(call $outcome (i32.const 1))"),
        simple("s", CLAIM, "unreachable", "(loop (br 0))"),
        simple(
            "s",
            CLAIM,
            "(call $outcome (i32.const 3)) (i64.const 1)",
            "(call $outcome (i32.const 2))",
        ),
    ];
    for shadow in shadows {
        let setup = setup(simple("p", CLAIM, "(i64.const 1)", ""), shadow, "");
        let (mut started, _) = setup.start(1);
        for _ in 0..50 {
            assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Handled(1));
            assert_eq!(write(&mut started.vcpus[0], 0x10, 3), Outcome::Handled(0));
        }
        let counts = counts(&started);
        assert_eq!((counts.accesses, counts.answers), (100, 100));
        assert_eq!(counts.examples.len(), 2, "one for reads and one for writes: {counts:?}");
        let rows = started.metrics.msrs();
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].plugin.as_deref(), rows[0].failures), (Some("p"), 0));
    }
}

#[test]
fn an_example_says_who_answered_what() {
    let shadow = simple("p", CLAIM, "(i64.const 2)", "(call $outcome (i32.const 1))");
    let setup = setup(simple("p", CLAIM, "(i64.const 1)", ""), shadow, "");
    let (mut started, _) = setup.start(1);
    let _ = read(&mut started.vcpus[0], 0x10);
    let _ = write(&mut started.vcpus[0], 0x10, 0x2b);
    let msr = "0x10 (IA32_TIME_STAMP_COUNTER) on vCPU 0";
    assert_eq!(
        counts(&started).examples,
        [
            format!("read of {msr}: 0x1; the shadow: 0x2"),
            format!("write of 0x2b to {msr}: done; the shadow: #GP"),
        ]
    );
}

#[test]
fn what_a_shadow_would_change_is_withheld_and_compared() {
    let shadow = busy("p", "vcpu", 1);
    let setup = setup(busy("p", "vcpu", 0), shadow, GRANT);
    let (mut started, host) = ticking(&setup, 1);
    let (mut alone, host_alone) =
        ticking(&Setup::new().with("p.wasm", busy("p", "vcpu", 0), GRANT), 1);
    for value in 0..20 {
        let _ = write(&mut started.vcpus[0], 0x10, value);
        let _ = write(&mut alone.vcpus[0], 0x10, value);
        assert_eq!(read(&mut started.vcpus[0], 0x10), read(&mut alone.vcpus[0], 0x10));
    }
    assert_eq!(*host.memory.lock().unwrap(), *host_alone.memory.lock().unwrap());
    assert_eq!(*host.msrs.lock().unwrap(), *host_alone.msrs.lock().unwrap());
    assert_eq!(host.now.load(Ordering::Relaxed), host_alone.now.load(Ordering::Relaxed));
    let counts = counts(&started);
    assert_eq!((counts.effects, counts.answers, counts.failures), (20, 20, 0), "{counts:?}");
    assert!(counts.examples[0].contains("to GPA 0x1000"), "{}", counts.examples[0]);
}

#[test]
fn a_shadow_cannot_change_what_exits() {
    let manifest = format!("{CLAIM}\n[needs]\ncapabilities = [\"intercept\"]");
    let shadow = plugin(
        "s",
        &manifest,
        "(import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (i64.extend_i32_u (call $intercept (i32.const 0x10) (i32.const 0x10) (i32.const 3) (i32.const 0))))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))",
    );
    let keys = "shadow-of = \"p\"\ngrant = [\"intercept\"]";
    let in_charge = simple("p", CLAIM, "(i64.const 1)", "");
    let setup = Setup::new().with("p.wasm", in_charge, "").with("s.wasm", shadow, keys);
    let (mut started, host) = setup.start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Handled(1));
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Handled(1));
    let counts = counts(&started);
    assert_eq!(
        counts.examples,
        ["read of 0x10 (IA32_TIME_STAMP_COUNTER) on vCPU 0: 0x1; the shadow: 0x0"]
    );
    assert!(host.exits.lock().unwrap().is_none());
}

#[test]
fn accesses_that_a_shadow_does_not_claim_are_counted() {
    let shadow = simple("s", "[[msr]]\nrange = \"0x11\"\naccess = \"rw\"", "(i64.const 1)", "");
    let setup = setup(simple("p", CLAIM, "(i64.const 1)", ""), shadow, "");
    let (mut started, _) = setup.start(1);
    let _ = read(&mut started.vcpus[0], 0x10);
    let counts = counts(&started);
    assert_eq!((counts.accesses, counts.unclaimed, counts.answers), (1, 1, 0));
    let exits = setup.load().unwrap().exits().clone();
    assert!(
        exits.claims.iter().all(|claim| !claim.range.contains(wasmsr_engine::msr::MsrIndex(0x11)))
    );
}

#[test]
fn unhandled_accesses_reach_shadows_too() {
    let manifest = "[unhandled]\nreasons = [\"unknown\"]";
    let setup = setup(
        simple("p", manifest, "(i64.const 1)", ""),
        simple("p", manifest, "(i64.const 2)", ""),
        "",
    );
    let (mut started, _) = setup.start(1);
    let outcome = access(&mut started.vcpus[0], 0x500, MsrOp::Read, Reason::Unknown);
    assert_eq!(outcome, Outcome::Handled(1));
    assert_eq!(counts(&started).answers, 1);
}

#[test]
fn a_reset_and_timers_reach_shadows() {
    let setup = setup(busy("p", "vcpu", 0), busy("p", "vcpu", 0), GRANT);
    let (mut started, host) = ticking(&setup, 1);
    let _ = write(&mut started.vcpus[0], 0x10, 1);
    host.now.fetch_add(10_000_000, Ordering::Relaxed);
    started.vcpus[0].wake();
    started.vcpus[0].reset().unwrap();
    let _ = write(&mut started.vcpus[0], 0x10, 1);
    let counts = counts(&started);
    assert_eq!((counts.accesses, counts.answers, counts.effects), (2, 0, 0), "{counts:?}");
}

#[test]
fn a_shadow_of_nobody_is_refused() {
    let bytes = simple("p", CLAIM, "(i64.const 1)", "");
    let setup = Setup::new().with("p.wasm", &bytes, "").with("s.wasm", &bytes, "shadow-of = \"q\"");
    let error = setup.load().err().unwrap();
    assert!(
        error.contains("`shadow-of = \"q\"` names no plugin of this profile; its plugins are `p`")
    );
}
