//! Which plugin answers, and with what.

use wasmsr_engine::Metrics;
use wasmsr_interface::{MsrOp, Outcome, Reason};

use crate::fixture::{Setup, access, plugin, read, write};

/// Remembers one value per instance; reads add the vCPU in bits 32 and up.
const REMEMBERS: &str = "
    (global $value (mut i64) (i64.const 0))
    (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
      (i64.or (global.get $value)
              (i64.shl (i64.extend_i32_u (local.get 1)) (i64.const 32))))
    (func (export \"wrmsr\") (param i32 i64 i32 i32) (global.set $value (local.get 1)))";

/// Reads call `outcome(kind)` and return `value`.
fn says(name: &str, kind: u32, value: u64) -> Vec<u8> {
    let body = format!(
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (call $outcome (i32.const {kind})) (i64.const {value}))"
    );
    plugin(name, "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", &body)
}

fn answers(name: &str, manifest: &str, value: u64) -> Vec<u8> {
    let body = format!(
        "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const {value}))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))"
    );
    plugin(name, manifest, &body)
}

#[test]
fn vcpu_scope_is_an_instance_each_and_vm_scope_one_for_all() {
    for (scope, seen) in [("vcpu", 0), ("vm", 7)] {
        let manifest = format!("[[msr]]\nrange = \"0x10\"\nscope = \"{scope}\"");
        let setup = Setup::new().with("p.wasm", plugin("p", &manifest, REMEMBERS), "");
        let (mut started, _) = setup.start(2);
        assert_eq!(write(&mut started.vcpus[0], 0x10, 7), Outcome::Done);
        assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(7));
        assert_eq!(read(&mut started.vcpus[1], 0x10), Outcome::Value(1 << 32 | seen), "{scope}");
    }
}

#[test]
fn one_plugin_may_have_msrs_of_both_scopes() {
    let manifest =
        "[[msr]]\nrange = \"0x10\"\nscope = \"vcpu\"\n[[msr]]\nrange = \"0x11\"\nscope = \"vm\"";
    let (mut started, _) =
        Setup::new().with("p.wasm", plugin("p", manifest, REMEMBERS), "").start(2);
    let _ = write(&mut started.vcpus[0], 0x10, 1);
    let _ = write(&mut started.vcpus[0], 0x11, 2);
    assert_eq!(read(&mut started.vcpus[1], 0x10), Outcome::Value(1 << 32));
    assert_eq!(read(&mut started.vcpus[1], 0x11), Outcome::Value(1 << 32 | 2));
}

#[test]
fn a_plugin_says_fault_or_kernel_by_a_host_call() {
    for (kind, outcome) in [(1, Outcome::Fault), (3, Outcome::Kernel)] {
        assert_eq!(
            read(&mut Setup::new().with("p.wasm", says("p", kind, 5), "").one(), 0x10),
            outcome
        );
    }
}

#[test]
fn an_unknown_outcome_is_a_failure() {
    let mut vcpu = Setup::new().with("p.wasm", says("p", 4, 5), "on-failure = \"stop\"").one();
    let Outcome::Stop(text) = read(&mut vcpu, 0x10) else { panic!("no stop") };
    assert!(text.contains("`outcome` called with 4"), "{text}");
}

#[test]
fn what_three_plugins_pass_on_meets_the_policy() {
    let setup = |policy: &str, last: u32| {
        Setup::new()
            .head(policy)
            .with("a.wasm", says("a", 2, 0), "")
            .with("b.wasm", says("b", 2, 0), "fallback = true")
            .with("c.wasm", says("c", last, 9), "fallback = true")
    };
    assert_eq!(read(&mut setup("", 2).one(), 0x10), Outcome::Fault);
    assert_eq!(read(&mut setup("[msr]\nunknown = \"ignore\"", 2).one(), 0x10), Outcome::Value(0));
    assert_eq!(read(&mut setup("", 3).one(), 0x10), Outcome::Kernel);
    let (mut started, _) = setup("", 1).start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Fault);
    let rows = started.metrics.msrs();
    assert_eq!(rows[0].plugin.as_deref(), Some("c"), "the one that answered is counted");
}

/// Of so many accesses to an MSR, those that times and fuel count for: the first
/// 64, and after that whole groups of 64.
fn sampled(accesses: u64) -> u64 {
    accesses.min(64) + accesses.saturating_sub(64) / 64 * 64
}

/// The plugin that answered, how often, and how many timed and metered accesses there
/// are.
fn costs(metrics: &Metrics) -> Vec<(Option<String>, u64, u64, u64)> {
    let rows = metrics.msrs().into_iter();
    rows.map(|row| {
        let plugin = row.plugin.as_deref().map(str::to_owned);
        (plugin, row.accesses(), row.latency.timed(), row.metered)
    })
    .collect()
}

#[test]
fn what_an_access_costs_is_known_of_who_answered_it() {
    let unhandled = answers("u", "[unhandled]\nreasons = [\"unknown\"]", 1);
    let setup = Setup::new()
        .with("a.wasm", says("a", 2, 0), "")
        .with("b.wasm", says("b", 1, 9), "fallback = true")
        .with("u.wasm", unhandled, "");
    let (mut started, _) = setup.start(1);
    for _ in 0..1000 {
        let vcpu = &mut started.vcpus[0];
        let _ = read(vcpu, 0x10);
        let _ = access(vcpu, 0x20, MsrOp::Read, Reason::Unknown);
        let _ = access(vcpu, 0x30, MsrOp::Read, Reason::Invalid);
    }
    let timed = sampled(1000);
    assert_eq!(timed, 960);
    let expected = [
        (Some("b".to_owned()), 1000, timed, timed),
        (Some("u".to_owned()), 1000, timed, timed),
        (None, 1000, timed, 0),
    ];
    assert_eq!(costs(&started.metrics), expected);
    let rows = started.metrics.msrs();
    assert!(rows[0].mean_fuel().is_some_and(|fuel| fuel > 0), "it made a host call");
    assert_eq!(rows[2].mean_fuel(), None, "the policy takes none");
}

#[test]
fn who_answers_later_is_timed_later() {
    let body = "
        (import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
        (global $left (mut i32) (i32.const 65))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (if (i32.eqz (global.get $left)) (then (call $outcome (i32.const 2)) (return (i64.const 0))))
          (global.set $left (i32.sub (global.get $left) (i32.const 1)))
          (i64.const 5))";
    let setup = Setup::new()
        .with("first.wasm", plugin("first", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", body), "")
        .with("later.wasm", says("later", 1, 0), "fallback = true");
    let (mut started, _) = setup.start(1);
    for _ in 0..1000 {
        let _ = read(&mut started.vcpus[0], 0x10);
    }
    let later = sampled(1000) - 64;
    let expected =
        [(Some("first".to_owned()), 65, 64, 64), (Some("later".to_owned()), 935, later, later)];
    assert_eq!(costs(&started.metrics), expected);
}

#[test]
fn the_policy_knows_both_reasons() {
    let head = "[msr]\nunknown = \"ignore\"\ninvalid = \"stop\"";
    let mut vcpu = Setup::new().head(head).one();
    let unknown = access(&mut vcpu, 0xdead_beef, MsrOp::Write(1), Reason::Unknown);
    assert_eq!(unknown, Outcome::Done);
    let invalid = access(&mut vcpu, 0x10a, MsrOp::Write(1), Reason::Invalid);
    let Outcome::Stop(text) = invalid else { panic!("no stop") };
    for part in ["write of 0x10a (IA32_ARCH_CAPABILITIES)", "reason invalid", "invalid = \"stop\""]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn unhandled_accesses_reach_the_plugins_that_ask_for_their_reason() {
    let unknown = answers("u", "[unhandled]\nreasons = [\"unknown\"]", 1);
    let invalid = answers("i", "[unhandled]\nreasons = [\"invalid\"]", 2);
    let claims = answers("c", "[[msr]]\nrange = \"0x10\"", 3);
    let mut vcpu = Setup::new()
        .with("u.wasm", unknown, "")
        .with("i.wasm", invalid, "")
        .with("c.wasm", claims, "")
        .one();
    let mut read = |index, reason| access(&mut vcpu, index, MsrOp::Read, reason);
    assert_eq!(read(0x99, Reason::Unknown), Outcome::Value(1));
    assert_eq!(read(0x99, Reason::Invalid), Outcome::Value(2));
    assert_eq!(read(0x10, Reason::Unknown), Outcome::Value(3), "a claim comes first");
}

#[test]
fn each_boot_starts_from_nothing() {
    let setup =
        Setup::new().with("p.wasm", plugin("p", "[[msr]]\nrange = \"0x10\"", REMEMBERS), "");
    let _ = write(&mut setup.one(), 0x10, 7);
    assert_eq!(read(&mut setup.one(), 0x10), Outcome::Value(0));
}

#[test]
fn vcpus_answer_at_the_same_time() {
    let manifest = "[[msr]]\nrange = \"0x10\"\nscope = \"vm\"";
    let body = "
        (global $count (mut i64) (i64.const 0))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $count))
        (func (export \"wrmsr\") (param i32 i64 i32 i32)
          (global.set $count (i64.add (global.get $count) (local.get 1))))";
    let (started, _) = Setup::new().with("p.wasm", plugin("p", manifest, body), "").start(4);
    let threads: Vec<_> = started
        .vcpus
        .into_iter()
        .map(|mut vcpu| {
            std::thread::spawn(move || {
                for _ in 0..1000 {
                    let _ = write(&mut vcpu, 0x10, 1);
                }
                vcpu
            })
        })
        .collect();
    let mut vcpus: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(read(&mut vcpus[3], 0x10), Outcome::Value(4000));
    assert_eq!(started.metrics.msrs()[0].writes, 4000);
}
