//! Shadows: what they see, and that the guest does not see them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use wasmsr_engine::record::RecordingWriter;
use wasmsr_engine::{ShadowCounts, Started};
use wasmsr_interface::{Host, MsrHandler, MsrIndex, MsrOp, Outcome, Reason};

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
        assert_eq!(counts.metered, 1200, "all but the one that trapped");
        assert_eq!(counts.mean_fuel(), counts.mean_fuel_in_charge(), "{scope}");
        assert!(counts.mean_fuel().unwrap() > 1_000, "host calls are paid for: {counts:?}");
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
            assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(1));
            assert_eq!(write(&mut started.vcpus[0], 0x10, 3), Outcome::Done);
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
            format!("write of 0x2b to {msr}: ok; the shadow: fault"),
        ]
    );
}

#[test]
fn what_a_shadow_would_change_is_dropped_and_compared() {
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
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(1));
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(1));
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
    assert!(exits.claims.iter().all(|claim| !claim.range.contains(MsrIndex(0x11))));
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
    assert_eq!(outcome, Outcome::Value(1));
    assert_eq!(counts(&started).answers, 1);
}

#[test]
fn fuel_shows_what_a_shadow_costs_where_time_does_not() {
    let reads = |times: usize| {
        let body = format!(
            "(import \"wasmsr\" \"tsc\" (func $tsc (result i64)))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {} (i64.const 1))",
            "(drop (call $tsc))".repeat(times)
        );
        plugin("p", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", &body)
    };
    let fuel = |in_charge: usize, shadow: usize| {
        let (mut started, _) = setup(reads(in_charge), reads(shadow), "").start(1);
        for _ in 0..100 {
            let _ = read(&mut started.vcpus[0], 0x10);
        }
        let counts = counts(&started);
        assert_eq!(counts.metered, 100);
        (counts.mean_fuel_in_charge().unwrap(), counts.mean_fuel().unwrap())
    };
    let (one, sixty) = fuel(1, 60);
    assert!(one > 1_000 && sixty > 50 * one, "{one}, {sixty}");
    assert_eq!(fuel(60, 1), (sixty, one));
}

/// Writes ask for a timer after `after` ns; it, `init` and `reset` write `byte`
/// to guest memory.
fn writing(scope: &str, byte: u8, after: u64) -> Vec<u8> {
    let manifest = format!(
        "{CLAIM}\nscope = \"{scope}\"\n[needs]\ncapabilities = [\"guest-memory\", \"timer\"]"
    );
    let body = format!(
        "(import \"wasmsr\" \"monotonic_ns\" (func $ns (result i64)))
         (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
         (import \"wasmsr\" \"guest_write\" (func $write (param i64 i32 i32) (result i32)))
         (func $put
            (i32.store8 (i32.const 0) (i32.const {byte}))
            (drop (call $write (i64.const 0x1000) (i32.const 0) (i32.const 1))))
         (func (export \"init\") (param i32) (result i32) (call $put) (i32.const 0))
         (func (export \"reset\") (call $put))
         (func (export \"timer\") (call $put))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 1))
         (func (export \"wrmsr\") (param i32 i64 i32 i32)
            (drop (call $timer (i64.add (call $ns) (i64.const {after})))))"
    );
    plugin("p", &manifest, &body)
}

const WRITING: &str = "grant = [\"guest-memory\", \"timer\"]";

#[test]
fn starts_timers_and_resets_reach_shadows_and_are_compared() {
    let setup = setup(writing("vcpu", 1, 2_000_000), writing("vcpu", 2, 2_000_000), WRITING);
    let (mut started, host) = ticking(&setup, 2);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x10, 1);
    host.now.fetch_add(10_000_000, Ordering::Relaxed);
    vcpu.wake();
    vcpu.reset().unwrap();
    let counts = counts(&started);
    assert_eq!((counts.accesses, counts.answers, counts.effects), (1, 0, 4), "{counts:?}");
    let differs = |when: &str| {
        format!("{when} on vCPU 0: wrote 01 to GPA 0x1000; the shadow: wrote 02 to GPA 0x1000")
    };
    assert_eq!(counts.examples, ["start", "timers", "reset"].map(differs));
    assert_eq!(host.memory.lock().unwrap()[0x1000], 1);
}

#[test]
fn a_start_of_the_vms_own_instance_is_compared() {
    for (byte, effects) in [(1, 0), (2, 1)] {
        let setup = setup(writing("vm", 1, 0), writing("vm", byte, 0), WRITING);
        let counts = counts(&setup.start(2).0);
        assert_eq!((counts.effects, counts.examples.len() as u64), (effects, effects));
        assert!(counts.examples.iter().all(|example| example.starts_with("start: wrote 01")));
    }
}

#[test]
fn another_timer_is_another_effect() {
    let setup = setup(writing("vcpu", 1, 2_000_000), writing("vcpu", 1, 3_000_000), WRITING);
    let (mut started, host) = setup.start(1);
    let _ = write(&mut started.vcpus[0], 0x10, 1);
    assert_eq!(
        counts(&started).examples,
        ["write of 0x1 to 0x10 (IA32_TIME_STAMP_COUNTER) on vCPU 0: set a timer to 2000077 ns; \
          the shadow: set a timer to 3000077 ns"]
    );
    // The timer of the one in charge comes first, and alone.
    host.now.store(2_500_000, Ordering::Relaxed);
    started.vcpus[0].wake();
    let counts = counts(&started);
    assert_eq!(counts.effects, 2);
    assert!(counts.examples[1].ends_with("the shadow: changed nothing"), "{counts:?}");
}

#[test]
fn another_intercept_is_another_effect() {
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"rw\"\n\
                    [[msr]]\nrange = \"0x20-0x2f\"\naccess = \"r\"\nintercept = \"off\"\n\
                    [needs]\ncapabilities = [\"intercept\"]";
    let switching = |calls: &str| {
        let body = format!(
            "(import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))
             (func (export \"wrmsr\") (param i32 i64 i32 i32) {calls})"
        );
        plugin("p", manifest, &body)
    };
    let call = |last: u32, on: u32| {
        format!(
            "(drop (call $intercept (i32.const 0x20) (i32.const {last}) (i32.const 1) (i32.const {on})))"
        )
    };
    let examples = |shadow: &str| {
        let setup = setup(switching(&call(0x21, 1)), switching(shadow), "grant = [\"intercept\"]");
        let (mut started, host) = setup.start(1);
        let _ = write(&mut started.vcpus[0], 0x10, 1);
        assert_eq!(host.exits.lock().unwrap().as_ref().unwrap().claims.len(), 3);
        let counts = counts(&started);
        assert_eq!(counts.effects, counts.examples.len() as u64);
        let what = counts.examples.iter().filter_map(|example| example.split_once(": "));
        what.map(|(_, what)| what.to_owned()).collect::<Vec<_>>()
    };
    let in_charge = "turned 0x20-0x21 r on; the shadow";
    assert!(examples(&call(0x21, 1)).is_empty());
    assert_eq!(examples(""), [format!("{in_charge}: changed nothing")]);
    assert_eq!(examples(&call(0x20, 1)), [format!("{in_charge}: turned 0x20 r on")]);
    assert_eq!(examples(&call(0x21, 0)), [format!("{in_charge}: turned 0x20-0x21 r off")]);
}

#[test]
fn a_shadow_that_does_not_start_is_left_out() {
    for init in ["unreachable", "(i32.ne (local.get 0) (i32.const 0))"] {
        let body = format!(
            "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 1))
             (func (export \"init\") (param i32) (result i32) {init})"
        );
        let bad = plugin("p", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", &body);
        let setup = setup(simple("p", CLAIM, "(i64.const 1)", ""), bad, "");
        let error = setup.load().unwrap().dry_run(2).unwrap_err().to_string();
        assert!(error.contains("s.wasm"), "{error}");
        let (mut started, _) = setup.start(2);
        for vcpu in &mut started.vcpus {
            assert_eq!(read(vcpu, 0x10), Outcome::Value(1));
        }
        let counts = counts(&started);
        assert_eq!((counts.accesses, counts.failures), (0, 1));
        assert_eq!(counts.examples, [format!("it did not start: {error}")]);
    }
}

/// Reads count, all vCPUs' together if the scope is the VM's, after `spins` turns
/// of a loop.
fn counting(scope: &str, spins: u32) -> Vec<u8> {
    let manifest = format!("[[msr]]\nrange = \"0x10\"\naccess = \"r\"\nscope = \"{scope}\"");
    let body = format!(
        "(global $count (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (local.set 0 (i32.const {spins}))
            (loop $spin
                (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
                (br_if $spin (local.get 0)))
            (global.set $count (i64.add (global.get $count) (i64.const 1)))
            (global.get $count))"
    );
    plugin("p", &manifest, &body)
}

#[test]
fn shadows_on_several_vcpus_see_the_order_of_who_is_in_charge() {
    const ACCESSES: u64 = 2_000;
    for scope in ["vm", "vcpu"] {
        let (mut started, _) = setup(counting(scope, 1), counting(scope, 5_000), "").start(4);
        thread::scope(|scope| {
            for vcpu in &mut started.vcpus {
                scope.spawn(move || (0..ACCESSES).for_each(|_| drop(read(vcpu, 0x10))));
            }
        });
        let counts = counts(&started);
        assert_eq!((counts.accesses, counts.answers), (4 * ACCESSES, 0), "{scope}: {counts:?}");
    }
}

/// Reads do `first`, and answer 1.
fn stuck(scope: &str, first: &str) -> Vec<u8> {
    let manifest = format!(
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\nscope = \"{scope}\"\n\
         [needs]\ncapabilities = [\"guest-memory\"]"
    );
    let body = format!(
        "(import \"wasmsr\" \"monotonic_ns\" (func $ns (result i64)))
         (import \"wasmsr\" \"guest_read\" (func $read (param i64 i32 i32) (result i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {first} (i64.const 1))"
    );
    plugin("p", &manifest, &body)
}

/// Reads the clock, and gets stuck as long as the test holds the guest's memory.
const STUCK: &str =
    "(drop (call $ns)) (drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))";

#[test]
fn nobody_waits_for_a_shadow_that_is_not_theirs() {
    let bystander = |scope: &str| {
        let manifest = format!("[[msr]]\nrange = \"0x20\"\nscope = \"{scope}\"");
        simple("q", &manifest, "(i64.const 5)", "")
    };
    for (scope, others) in [("vm", "vcpu"), ("vcpu", "vm")] {
        let setup = setup(stuck(scope, ""), stuck(scope, STUCK), "grant = [\"guest-memory\"]")
            .with("q.wasm", bystander(others), "");
        let host = Arc::new(TestHost::default());
        host.tick.store(1, Ordering::Relaxed);
        let shared: Arc<dyn Host> = host.clone();
        let recording = RecordingWriter::begin(io::sink(), u64::MAX).unwrap();
        let engine = setup.load().unwrap();
        let mut started = engine.start_recorded(&shared, 2, recording.recorder()).unwrap();
        let [one, other] = &mut started.vcpus[..] else { panic!() };
        let memory = host.memory.lock().unwrap();
        let before = host.now.load(Ordering::Relaxed);
        thread::scope(|threads| {
            threads.spawn(|| read(one, 0x10));
            while host.now.load(Ordering::Relaxed) == before {
                thread::yield_now();
            }
            let (done, answer) = channel();
            threads.spawn(move || done.send(read(other, 0x20)));
            let answer = answer.recv_timeout(Duration::from_secs(60));
            drop(memory);
            assert_eq!(answer, Ok(Outcome::Value(5)), "{scope}");
        });
        assert_eq!(counts(&started).accesses, 1);
    }
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
