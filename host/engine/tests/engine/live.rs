//! Sets of plugins that change places while vCPUs run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wasmsr_engine::live::{Fate, Live, LiveStart, LiveVcpu, SwapError, Verdict};
use wasmsr_engine::profile::OnFailure;
use wasmsr_engine::{Engine, FilterChange, Terms};
use wasmsr_interface::{Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, Reason, VcpuId};

use crate::fixture::{Setup, TestHost, plugin};
use crate::state::counter;

const CLAIM: &str = "[[msr]]\nrange = \"0x10\"\naccess = \"rw\"";

fn load(setup: &Setup) -> Arc<Engine> {
    Arc::new(setup.load().unwrap())
}

pub(crate) fn one(file: &str, bytes: Vec<u8>, keys: &str) -> Arc<Engine> {
    load(&Setup::new().with(file, bytes, keys))
}

/// Answers reads of its MSRs with a value.
fn constant(name: &str, manifest: &str, value: u64) -> Vec<u8> {
    let body = format!(
        "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const {value}))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))"
    );
    plugin(name, manifest, &body)
}

pub(crate) struct Vm {
    pub(crate) live: Live,
    pub(crate) vcpus: Vec<LiveVcpu>,
    pub(crate) host: Arc<TestHost>,
}

fn start(engine: &Arc<Engine>, vcpus: u32) -> Vm {
    let host = Arc::new(TestHost::default());
    let shared: Arc<dyn Host> = host.clone();
    let LiveStart { live, vcpus, .. } = engine.start_live(&shared, vcpus, None).unwrap();
    Vm { live, vcpus, host }
}

fn access(vcpu: &mut LiveVcpu, index: u32, op: MsrOp) -> Outcome {
    vcpu.answer(MsrAccess { index: MsrIndex(index), op, reason: Reason::Filter })
}

pub(crate) fn read(vcpu: &mut LiveVcpu, index: u32) -> Outcome {
    access(vcpu, index, MsrOp::Read)
}

fn fates(swapped: &wasmsr_engine::live::Swapped) -> BTreeMap<&str, Fate> {
    swapped.plugins.iter().map(|(name, fate)| (&**name, *fate)).collect()
}

#[test]
fn state_goes_along_and_no_access_is_lost() {
    for scope in ["vcpu", "vm"] {
        let (one, two) = (
            one("c.wasm", counter("1.0.0", scope), ""),
            one("c.wasm", counter("2.0.0", scope), ""),
        );
        let mut vm = start(&one, 2);
        let mut seen = [Vec::new(), Vec::new()];
        for round in 0..20 {
            for (vcpu, seen) in vm.vcpus.iter_mut().zip(&mut seen) {
                let Outcome::Value(value) = read(vcpu, 0x10) else { panic!() };
                seen.push(value);
            }
            let next = if round % 2 == 0 { &two } else { &one };
            let swapped = vm.live.swap(next, None).unwrap();
            assert_eq!(swapped.generation, round + 2);
            assert_eq!(fates(&swapped), BTreeMap::from([("counter", Fate::Carried)]));
            assert_eq!(swapped.filter, FilterChange::Unchanged);
        }
        let expected: Vec<u64> = (1..=20).collect();
        match scope {
            "vcpu" => assert_eq!(seen, [expected.clone(), expected]),
            _ => {
                let mut all: Vec<u64> = seen.into_iter().flatten().collect();
                all.sort_unstable();
                assert_eq!(all, (1..=40).collect::<Vec<u64>>());
            }
        }
    }
}

/// Each of these refuses in its own way; the guest never notices.
#[test]
fn a_refusal_leaves_the_set_in_charge_untouched() {
    let manifest = "[[msr]]\nrange = \"0x10\"";
    let with = |body: &str| {
        let base = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 7))
                    (func (export \"wrmsr\") (param i32 i64 i32 i32))";
        plugin("counter", manifest, &format!("{base} {body}"))
    };
    let traps_in_init = with("(func (export \"init\") (param i32) (result i32) unreachable)");
    let loops_in_init =
        with("(func (export \"init\") (param i32) (result i32) (loop (br 0)) (i32.const 0))");
    let refuses = with("(func (export \"restore\") (result i32) (i32.const 1))");
    let cannot_restore = with("");
    let traps_in_restore = with("(func (export \"restore\") (result i32) unreachable)");
    let other_scope = counter("1.0.0", "vm");
    let cases = [
        (traps_in_init, "unreachable"),
        (loops_in_init, "fuel"),
        (refuses, "does not take the state of version 1.0.0"),
        (cannot_restore, "does not take the state of version 1.0.0"),
        (traps_in_restore, "unreachable"),
        (other_scope, "scope \"vcpu\", whose state that is"),
    ];
    let mut vm = start(&one("c.wasm", counter("1.0.0", "vcpu"), ""), 2);
    let mut reads = 0;
    for (next, why) in cases {
        let next = one("c.wasm", next, "");
        for result in [vm.live.rehearse(&next), vm.live.swap(&next, Some(&Terms::default()))] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            reads += 1;
            assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(reads));
        }
        assert_eq!(vm.live.generation(), 1);
    }
}

#[test]
fn a_plugin_in_charge_that_does_not_save_stays() {
    let manifest = "[[msr]]\nrange = \"0x10\"";
    let body = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))
                (func (export \"wrmsr\") (param i32 i64 i32 i32))
                (func (export \"save\") (result i32) (i32.const 3))";
    let mut vm = start(&one("c.wasm", plugin("counter", manifest, body), ""), 1);
    let error = vm.live.swap(&one("c.wasm", counter("2.0.0", "vcpu"), ""), None).unwrap_err();
    assert!(matches!(error, SwapError::Save { .. }), "{error}");
    assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(5));
}

#[test]
fn a_plugin_that_is_the_same_goes_on_even_without_save() {
    let manifest = "[[msr]]\nrange = \"0x20\"";
    let body = "(global $n (mut i64) (i64.const 0))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))
        (func (export \"wrmsr\") (param i32 i64 i32 i32))";
    for scope in ["vcpu", "vm"] {
        let manifest = format!("{manifest}\nscope = \"{scope}\"");
        let same = plugin("same", &manifest, body);
        let setup = |value, more: bool| {
            let setup = Setup::new().with("s.wasm", &same, "");
            let setup = setup.with("k.wasm", constant("k", CLAIM, value), "");
            let other = constant("more", "[[msr]]\nrange = \"0x30\"", 9);
            load(&if more { setup.with("m.wasm", other, "") } else { setup })
        };
        let mut vm = start(&setup(1, false), 2);
        assert_eq!(read(&mut vm.vcpus[0], 0x20), Outcome::Value(1));
        let swapped = vm.live.swap(&setup(2, true), None).unwrap();
        let expected =
            BTreeMap::from([("k", Fate::Fresh), ("more", Fate::New), ("same", Fate::Kept)]);
        assert_eq!(fates(&swapped), expected);
        assert_eq!(swapped.filter, FilterChange::Changed);
        assert_eq!(read(&mut vm.vcpus[0], 0x20), Outcome::Value(2));
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(2));
        assert_eq!(read(&mut vm.vcpus[1], 0x30), Outcome::Value(9));
        let swapped = vm.live.swap(&setup(1, false), Some(&Terms::default())).unwrap();
        assert_eq!(fates(&swapped)["more"], Fate::Gone);
        assert_eq!(read(&mut vm.vcpus[0], 0x20), Outcome::Value(3));
        let rolled_back = vm.live.roll_back().unwrap();
        assert_eq!(rolled_back.generation, 4);
        assert_eq!(read(&mut vm.vcpus[0], 0x20), Outcome::Value(4));
        assert_eq!(read(&mut vm.vcpus[1], 0x30), Outcome::Value(9));
    }
}

#[test]
fn what_the_new_set_claims_exits_before_it_is_in_charge_and_the_rest_no_more_after() {
    let claims =
        |range: &str| one("k.wasm", constant("k", &format!("[[msr]]\nrange = \"{range}\""), 1), "");
    let mut vm = start(&claims("0x10-0x12"), 1);
    let exiting = |vm: &Vm| {
        let exits = vm.host.exits.lock().unwrap().clone().unwrap();
        let mut ranges: Vec<String> =
            exits.claims.iter().map(|claim| claim.range.to_string()).collect();
        ranges.dedup();
        ranges.sort();
        ranges.dedup();
        ranges
    };
    // Another name, so that the old plugin is gone and not followed.
    let next = one("n.wasm", constant("n", "[[msr]]\nrange = \"0x12-0x13\"", 2), "");
    vm.live.swap(&next, Some(&Terms::default())).unwrap();
    assert_eq!(exiting(&vm), ["0x10-0x12", "0x12-0x13"], "both, while it may come back");
    // What exits for the old set alone is KVM's.
    assert_eq!(read(&mut vm.vcpus[0], 0x11), Outcome::Fault, "KVM has no such MSR here");
    vm.host.msrs.lock().unwrap().insert((VcpuId(0), MsrIndex(0x11)), 0x77);
    assert_eq!(read(&mut vm.vcpus[0], 0x11), Outcome::Value(0x77));
    assert_eq!(access(&mut vm.vcpus[0], 0x11, MsrOp::Write(5)), Outcome::Done);
    assert_eq!(read(&mut vm.vcpus[0], 0x11), Outcome::Value(5));
    assert_eq!(read(&mut vm.vcpus[0], 0x12), Outcome::Value(2));
    let generation = vm.live.generation();
    assert_eq!(vm.live.supervise(generation, Some(Duration::ZERO)), Verdict::Kept);
    assert_eq!(exiting(&vm), ["0x12-0x13"]);
}

#[test]
fn a_filter_that_does_not_hold_both_sets_refuses_the_swap() {
    let claims = |name: &str, range: &str| {
        one("k.wasm", constant(name, &format!("[[msr]]\nrange = \"{range}\""), 1), "")
    };
    let mut vm = start(&claims("a", "0x10"), 1);
    // The test's host takes ten, and reads and writes count by themselves.
    let next = claims("b", "0x20-0x24");
    let error = vm.live.swap(&next, None).unwrap_err();
    assert!(matches!(error, SwapError::Filter(_)), "{error}");
    assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(1));
    vm.live.swap(&claims("c", "0x10-0x11"), None).unwrap();
}

/// `p` 1.0.0 and a newer one, which differs where `differs` says.
fn differing(read: &str) -> Arc<Engine> {
    let body = format!(
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (global $n (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (global.set $n (i64.add (global.get $n) (i64.const 1))) {read})
         (func (export \"wrmsr\") (param i32 i64 i32 i32))"
    );
    one("p.wasm", plugin("p", "[[msr]]\nrange = \"0x10-0x11\"", &body), "")
}

#[test]
fn a_set_that_fails_differs_or_faults_is_taken_back_before_the_next_access() {
    let old = differing("(i64.const 1)");
    let after = |what: &str, access: &str| {
        format!("(if (i64.eq (global.get $n) (i64.const 5)) (then {what})) {access}")
    };
    let cases = [
        (after("unreachable", "(i64.const 1)"), "failed", Outcome::Fault),
        (after("(loop (br 0))", "(i64.const 1)"), "failed", Outcome::Fault),
        (after("(return (i64.const 2))", "(i64.const 1)"), "differs", Outcome::Value(2)),
        (after("(call $outcome (i32.const 1))", "(i64.const 1)"), "differs", Outcome::Fault),
    ];
    for (read_body, word, seen) in cases {
        let mut vm = start(&old, 2);
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(1));
        let swapped = vm.live.swap(&differing(&read_body), Some(&Terms::default())).unwrap();
        for _ in 0..4 {
            assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(1), "{word}");
        }
        assert_eq!(vm.live.generation(), 2);
        assert_eq!(read(&mut vm.vcpus[0], 0x10), seen, "{word}");
        assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Value(1));
        assert_eq!(vm.live.generation(), 3);
        let Verdict::Returned(cause) = vm.live.supervise(swapped.generation, None) else {
            panic!()
        };
        assert_eq!(cause.word(), word, "{cause}");
        assert!(vm.live.probation().is_none());
    }
}

#[test]
fn as_many_differences_as_are_allowed_are_allowed() {
    let mut vm = start(&differing("(i64.const 1)"), 1);
    let terms = Terms { differences: 3, ..Terms::default() };
    vm.live.swap(&differing("(i64.const 2)"), Some(&terms)).unwrap();
    let seen: Vec<Outcome> = (0..6).map(|_| read(&mut vm.vcpus[0], 0x10)).collect();
    let (old, new) = (Outcome::Value(1), Outcome::Value(2));
    assert_eq!(seen, [&new, &new, &new, &new, &old, &old].map(Clone::clone));
}

#[test]
fn msrs_that_may_differ_do_not_bring_the_old_set_back() {
    let mut vm = start(&differing("(i64.const 1)"), 1);
    let may_differ = vec![MsrIndex(0x10).into()];
    let terms = Terms { may_differ, accesses: Some(50), ..Terms::default() };
    let swapped = vm.live.swap(&differing("(i64.const 2)"), Some(&terms)).unwrap();
    for _ in 0..50 {
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(2));
    }
    assert_eq!(vm.live.supervise(swapped.generation, None), Verdict::Kept);
    assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(2));
}

#[test]
fn the_former_set_has_seen_all_accesses_when_it_comes_back() {
    for scope in ["vcpu", "vm"] {
        let old = one("c.wasm", counter("1.0.0", scope), "");
        let mut vm = start(&old, 2);
        for vcpu in &mut vm.vcpus {
            assert!(matches!(read(vcpu, 0x10), Outcome::Value(_)));
        }
        vm.live.swap(&one("c.wasm", counter("2.0.0", scope), ""), Some(&Terms::default())).unwrap();
        for vcpu in &mut vm.vcpus {
            for _ in 0..5 {
                assert!(matches!(read(vcpu, 0x10), Outcome::Value(_)));
            }
        }
        let rolled_back = vm.live.roll_back().unwrap();
        assert_eq!(fates(&rolled_back), BTreeMap::from([("counter", Fate::Carried)]));
        let expected = if scope == "vm" { 13 } else { 7 };
        assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Value(expected), "{scope}");
    }
}

#[test]
fn a_rollback_after_the_probation_carries_the_state_down() {
    let old = one("c.wasm", counter("1.0.0", "vcpu"), "");
    let mut vm = start(&old, 1);
    assert!(matches!(vm.live.roll_back(), Err(SwapError::NoFormer)));
    vm.live.swap(&one("c.wasm", counter("1.5.0", "vcpu"), ""), None).unwrap();
    for _ in 0..5 {
        let _ = read(&mut vm.vcpus[0], 0x10);
    }
    vm.live.roll_back().unwrap();
    assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(6));
    assert_eq!(vm.live.generation(), 3);
}

#[test]
fn a_probation_lets_no_other_swap_in() {
    let (old, new) = (differing("(i64.const 1)"), differing("(i64.const 1) (drop) (i64.const 1)"));
    let vm = start(&old, 1);
    let swapped = vm.live.swap(&new, Some(&Terms::default())).unwrap();
    assert!(matches!(vm.live.swap(&old, None), Err(SwapError::OnProbation(2))));
    assert!(matches!(vm.live.rehearse(&old), Err(SwapError::OnProbation(2))));
    assert_eq!(vm.live.supervise(swapped.generation, Some(Duration::ZERO)), Verdict::Kept);
    vm.live.swap(&old, None).unwrap();
}

#[test]
fn a_disabled_plugin_is_answered_for_and_goes_on_where_it_was() {
    for scope in ["vcpu", "vm"] {
        let engine = one("c.wasm", counter("1.0.0", scope), "");
        let mut vm = start(&engine, 2);
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(1));
        vm.live.disable("counter", OnFailure::Ignore).unwrap();
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(0));
        vm.live.disable("counter", OnFailure::Kernel).unwrap();
        assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Kernel);
        let failures: u64 = vm.live.sources().metrics.msrs().iter().map(|row| row.failures).sum();
        assert_eq!(failures, 0);
        // Its state goes along though it is out.
        vm.live.rehearse(&one("c.wasm", counter("2.0.0", scope), "")).unwrap();
        vm.live.enable("counter").unwrap();
        assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(2), "{scope}");
        let error = vm.live.disable("x", OnFailure::Fault).unwrap_err().to_string();
        assert!(error.contains("`x`") && error.contains("`counter`"), "{error}");
    }
}

#[test]
fn what_plugins_change_before_they_are_in_charge_waits() {
    let writes = |value: u64| {
        let manifest =
            "[[msr]]\nrange = \"0x10\"\n[needs]\ncapabilities = [\"guest-memory\", \"kvm-msr\"]";
        let body = format!(
            "(import \"wasmsr\" \"guest_write\" (func $write (param i64 i32 i32) (result i32)))
             (import \"wasmsr\" \"kvm_wrmsr\" (func $wrmsr (param i32 i64) (result i32)))
             (func (export \"init\") (param i32) (result i32)
               (i64.store (i32.const 0) (i64.const {value}))
               (drop (call $write (i64.const 0x100) (i32.const 0) (i32.const 8)))
               (drop (call $wrmsr (i32.const 0x99) (i64.const {value})))
               (i32.const 0))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const {value}))
             (func (export \"wrmsr\") (param i32 i64 i32 i32))"
        );
        one("w.wasm", plugin("w", manifest, &body), "grant = [\"guest-memory\", \"kvm-msr\"]")
    };
    let mut vm = start(&writes(1), 2);
    let seen = |vm: &Vm| {
        let memory = vm.host.memory.lock().unwrap()[0x100];
        (memory, vm.host.msrs.lock().unwrap().get(&(VcpuId(1), MsrIndex(0x99))).copied())
    };
    assert_eq!(seen(&vm), (1, Some(1)));
    vm.live.rehearse(&writes(2)).unwrap();
    assert_eq!(seen(&vm), (1, Some(1)), "a rehearsal changes nothing");
    vm.live.swap(&writes(2), None).unwrap();
    assert!(vm.host.wakes.lock().unwrap().contains(&(VcpuId(1), 0)), "the vCPU is to come out");
    vm.vcpus[1].wake();
    assert_eq!(seen(&vm), (2, Some(2)));
    assert_eq!(read(&mut vm.vcpus[0], 0x10), Outcome::Value(2));
}

/// Asks the host for the TSC, and then takes its time.
fn slow(value: u64) -> Arc<Engine> {
    let body = format!(
        "(import \"wasmsr\" \"tsc\" (func $tsc (result i64)))
         (global $n (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (drop (call $tsc))
           (global.set $n (i64.const 0))
           (loop (global.set $n (i64.add (global.get $n) (i64.const 1)))
                 (br_if 0 (i64.lt_u (global.get $n) (i64.const 20000000))))
           (i64.const {value}))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))"
    );
    one("s.wasm", plugin("s", "[[msr]]\nrange = \"0x10\"", &body), "fuel = 1000000000")
}

#[test]
fn an_access_that_is_being_answered_is_answered_by_the_set_that_began() {
    let Vm { live, mut vcpus, host } = start(&slow(1), 2);
    let next = slow(2);
    thread::scope(|threads| {
        let vcpu = &mut vcpus[0];
        let answering = threads.spawn(|| (read(vcpu, 0x10), read(vcpu, 0x10)));
        while host.asked.lock().unwrap().is_empty() {
            thread::yield_now();
        }
        live.swap(&next, None).unwrap();
        let (first, second) = answering.join().unwrap();
        assert_eq!((first, second), (Outcome::Value(1), Outcome::Value(2)));
    });
}

#[test]
fn a_generation_that_is_taken_back_at_once_still_counts() {
    let mut vm = start(&differing("(i64.const 1)"), 1);
    let swapped = vm.live.swap(&differing("unreachable"), Some(&Terms::default())).unwrap();
    let _ = read(&mut vm.vcpus[0], 0x10);
    let _ = read(&mut vm.vcpus[0], 0x10);
    assert_eq!(vm.live.generation(), 3);
    let of_second = vm.live.sources_of(swapped.generation).unwrap();
    assert_eq!(of_second.metrics.msrs()[0].failures, 1);
    assert!(vm.live.sources_of(1).is_none() && vm.live.sources_of(9).is_none());
}

#[test]
fn the_digest_is_that_of_what_decides() {
    let constant = constant("k", CLAIM, 1);
    let setup = |keys: &str| Setup::new().with("k.wasm", &constant, keys);
    let digest = |setup: &Setup| setup.load().unwrap().digest();
    let plain = digest(&setup(""));
    assert_eq!(plain, digest(&Setup::new().with("other.wasm", &constant, "# said otherwise")));
    assert_ne!(plain, digest(&setup("config = { a = 1 }")));
    assert_ne!(plain, digest(&setup("fuel = 5000")));
    assert_ne!(plain, digest(&setup("").head("[msr]\nunknown = \"ignore\"\n")));
    assert_ne!(plain, digest(&setup("").with("m.wasm", constant_of("m"), "")));
}

fn constant_of(name: &str) -> Vec<u8> {
    constant(name, "[[msr]]\nrange = \"0x30\"", 1)
}

/// vCPUs hammer one MSR while sets change places as fast as they can.
#[test]
fn a_storm_of_swaps_loses_and_doubles_no_access() {
    for scope in ["vcpu", "vm"] {
        let (old, new) = (
            one("c.wasm", counter("1.0.0", scope), ""),
            one("c.wasm", counter("2.0.0", scope), ""),
        );
        let vm = start(&old, 4);
        let stop = Arc::new(AtomicBool::new(false));
        let reads = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = vm
            .vcpus
            .into_iter()
            .map(|mut vcpu| {
                let (stop, reads) = (stop.clone(), reads.clone());
                thread::spawn(move || {
                    let mut seen = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let Outcome::Value(value) = read(&mut vcpu, 0x10) else { panic!() };
                        seen.push(value);
                        reads.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                    seen
                })
            })
            .collect();
        for round in 0..200 {
            let next = if round % 2 == 0 { &new } else { &old };
            let terms = (round % 3 == 0).then(Terms::default);
            let swapped = vm.live.swap(next, terms.as_ref()).unwrap();
            if terms.is_some() {
                assert_eq!(
                    vm.live.supervise(swapped.generation, Some(Duration::ZERO)),
                    Verdict::Kept
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
        let seen: Vec<Vec<u64>> =
            threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        match scope {
            "vcpu" => {
                for seen in seen {
                    assert!(seen.iter().copied().eq(1..=seen.len() as u64));
                }
            }
            _ => {
                let mut all: Vec<u64> = seen.into_iter().flatten().collect();
                all.sort_unstable();
                assert!(all.iter().copied().eq(1..=reads.load(Ordering::Relaxed)));
            }
        }
    }
}
