//! Kernel shadows: KVM's own answer beside the plugin's, which the guest does not see.

use std::sync::Arc;

use wasmsr_engine::{ShadowCounts, Started};
use wasmsr_interface::{MsrIndex, MsrOp, Outcome, Reason, VcpuId};

use crate::fixture::{Setup, TestHost, access, plugin, read, write};

const SHADOW: &str = "shadow-of = \"p\"\nkernel = true";

/// A plugin that answers with these bodies; `$held` is a variable of its own.
fn answering(claim: &str, read: &str, write: &str) -> Vec<u8> {
    let body = format!(
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (global $held (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {read})
         (func (export \"wrmsr\") (param $msr i32) (param $value i64) (param i32 i32) {write})"
    );
    plugin("p", &format!("[[msr]]\nrange = \"{claim}\"\naccess = \"rw\""), &body)
}

/// One that holds what was written last.
fn holding(claim: &str) -> Vec<u8> {
    answering(claim, "(global.get $held)", "(global.set $held (local.get $value))")
}

/// With KVM's value of an MSR on each vCPU.
fn start(plugin: Vec<u8>, vcpus: u32, kvm: &[(u32, u64)]) -> (Started, Arc<TestHost>) {
    let setup = Setup::new().with("p.wasm", plugin, "").with_keys(SHADOW);
    let (started, host) = setup.start(vcpus);
    for vcpu in 0..vcpus {
        for &(index, value) in kvm {
            host.msrs.lock().unwrap().insert((VcpuId(vcpu), MsrIndex(index)), value);
        }
    }
    (started, host)
}

fn counts(started: &Started) -> ShadowCounts {
    let [counts] = started.shadows.counts().try_into().unwrap();
    counts
}

#[test]
fn kvm_and_a_plugin_that_hold_the_same_agree_though_kvm_gets_no_write() {
    let (mut started, host) = start(holding("0x277"), 2, &[(0x277, 0)]);
    for value in 0..100 {
        for vcpu in &mut started.vcpus {
            assert_eq!(write(vcpu, 0x277, value), Outcome::Done);
            assert_eq!(read(vcpu, 0x277), Outcome::Value(value));
        }
    }
    let counts = counts(&started);
    assert_eq!((counts.plugin.as_str(), &*counts.of), ("kernel", "p"));
    assert_eq!((counts.accesses, counts.answers, counts.not_compared), (400, 0, 0), "{counts:?}");
    let [row] = counts.msrs.as_slice() else { panic!("{counts:?}") };
    assert_eq!((row.reads, row.other_reads, row.writes, row.other_writes), (200, 0, 200, 0));
    assert!(host.msrs.lock().unwrap().values().all(|&value| value == 0), "KVM got nothing");
}

#[test]
fn a_difference_is_told_and_the_guest_has_the_plugins_answer() {
    let (mut started, _) = start(holding("0x277"), 1, &[(0x277, 7)]);
    let vcpu = &mut started.vcpus[0];
    assert_eq!(read(vcpu, 0x277), Outcome::Value(0));
    // KVM drops the upper half, and refuses 0xbad.
    assert_eq!(write(vcpu, 0x277, 0x1_0000_0002), Outcome::Done);
    assert_eq!(read(vcpu, 0x277), Outcome::Value(0x1_0000_0002));
    assert_eq!(write(vcpu, 0x277, 0xbad), Outcome::Done);
    let counts = counts(&started);
    let pat = "0x277 (IA32_PAT)";
    assert_eq!(
        counts.examples,
        [
            format!("read of {pat} on vCPU 0: 0x0; KVM: 0x7"),
            format!("write of 0xbad to {pat} on vCPU 0: ok; KVM: fault"),
        ]
    );
    let row = &counts.msrs[0];
    assert_eq!((row.reads, row.other_reads, row.writes, row.other_writes), (2, 2, 2, 1));
    assert_eq!(row.example.as_deref(), Some("read on vCPU 0: 0x0; KVM: 0x7"));
}

#[test]
fn a_refused_write_leaves_kvm_what_it_held() {
    let refuses = answering("0x277", "(global.get $held)", "(call $outcome (i32.const 1))");
    let (mut started, _) = start(refuses, 1, &[(0x277, 0)]);
    let vcpu = &mut started.vcpus[0];
    assert_eq!(write(vcpu, 0x277, 0xbad), Outcome::Fault);
    let _ = read(vcpu, 0x277);
    assert_eq!(counts(&started).answers, 0);
    // KVM would have taken this one, so it differs from then on.
    let vcpu = &mut started.vcpus[0];
    assert_eq!(write(vcpu, 0x277, 5), Outcome::Fault);
    let _ = read(vcpu, 0x277);
    assert_eq!(counts(&started).answers, 2);
}

#[test]
fn what_a_plugin_passes_on_leaves_to_kvm_or_fails_at_is_not_compared() {
    // Outcome 2 is KVM's answer, 3 passes on.
    for (write_body, failures) in [
        ("(call $outcome (i32.const 2))", 0),
        ("(call $outcome (i32.const 3))", 0),
        ("unreachable", 1),
    ] {
        let (mut started, _) =
            start(answering("0x277", "(i64.const 0)", write_body), 1, &[(0x277, 0)]);
        let vcpu = &mut started.vcpus[0];
        let _ = write(vcpu, 0x277, 1);
        let counts = counts(&started);
        assert_eq!(
            (counts.accesses, counts.not_compared, counts.failures),
            (0, 1, failures),
            "{write_body}"
        );
        assert_eq!(counts.answers, 0);
    }
}

#[test]
fn after_a_write_that_says_nothing_reads_are_not_compared_until_the_next_one() {
    // Fails at 9.
    let body = "(if (i64.eq (local.get $value) (i64.const 9)) (then unreachable))
                (global.set $held (local.get $value))";
    let (mut started, _) = start(answering("0x277", "(global.get $held)", body), 1, &[(0x277, 0)]);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x277, 9);
    let _ = read(vcpu, 0x277);
    assert_eq!(counts(&started).not_compared, 2);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x277, 3);
    let _ = read(vcpu, 0x277);
    let counts = counts(&started);
    assert_eq!((counts.accesses, counts.answers, counts.not_compared), (2, 0, 2), "{counts:?}");
}

#[test]
fn an_msr_that_is_not_comparable_is_counted_so() {
    let (mut started, _) = start(holding("0x10"), 1, &[(0x10, 0)]);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x10, 1);
    let _ = read(vcpu, 0x10);
    let counts = counts(&started);
    assert_eq!((counts.accesses, counts.not_compared), (0, 2));
    assert_eq!(counts.msrs[0].not_compared, 2);
}

#[test]
fn a_guest_that_writes_many_msrs_takes_no_more_memory_than_the_first_1024() {
    let kvm: Vec<(u32, u64)> = (0x2000..0x2000 + 5000).map(|index| (index, 0)).collect();
    let (mut started, _) = start(holding("0x2000-0x3387"), 1, &kvm);
    let vcpu = &mut started.vcpus[0];
    for _ in 0..2 {
        for &(index, _) in &kvm {
            let _ = write(vcpu, index, 1);
        }
    }
    for &(index, _) in &kvm {
        let _ = read(vcpu, index);
    }
    let counts = counts(&started);
    assert_eq!(counts.accesses, 3 * 1024);
    assert_eq!(counts.not_compared, 3 * (5000 - 1024));
    assert_eq!(counts.answers, 0, "{:?}", counts.examples);
    assert_eq!(counts.msrs.len(), 1024);
}

#[test]
fn a_reset_forgets_what_kvm_would_have_held() {
    let (mut started, _) = start(holding("0x277"), 1, &[(0x277, 0)]);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x277, 5);
    vcpu.reset().unwrap();
    assert_eq!(read(vcpu, 0x277), Outcome::Value(0), "a fresh instance");
    assert_eq!(counts(&started).answers, 0);
}

#[test]
fn unhandled_accesses_that_the_plugin_answers_are_compared_with_a_fault() {
    let body = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))
                (func (export \"wrmsr\") (param i32 i64 i32 i32))";
    let bytes = plugin("p", "[unhandled]\nreasons = [\"unknown\"]", body);
    let (mut started, _) = start(bytes, 1, &[]);
    let vcpu = &mut started.vcpus[0];
    assert_eq!(access(vcpu, 0x999, MsrOp::Read, Reason::Unknown), Outcome::Value(5));
    let counts = counts(&started);
    assert_eq!(counts.examples, ["read of 0x999 on vCPU 0: 0x5; KVM: fault"]);
}

#[test]
fn without_one_nothing_is_asked_and_nothing_observes() {
    let setup = Setup::new().with("p.wasm", holding("0x277"), "");
    let (mut started, _) = setup.start(1);
    let _ = read(&mut started.vcpus[0], 0x277);
    assert!(started.shadows.counts().is_empty());
}

#[test]
fn mistakes_in_a_profile_are_named() {
    let refused = |keys: &str, parts: &[&str]| {
        let text = format!("[[plugin]]\npath = \"p.wasm\"\n[[plugin]]\n{keys}\n");
        let path = std::path::Path::new("vm.toml");
        let error = wasmsr_engine::Profile::parse(path, &text).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    };
    refused("kernel = true", &["line 3", "needs `shadow-of`"]);
    refused("shadow-of = \"p\"", &["line 3", "missing field `path`"]);
    let useless = [
        "path = \"k.wasm\"",
        "name = \"k\"",
        "config.a = 1",
        "grant = [\"timer\"]",
        "fuel = 5",
        "memory = \"2MiB\"",
        "fallback = true",
        "on-failure = \"stop\"",
        "kernel-from = \"6.1\"",
    ];
    for key in useless {
        let name = key.split([' ', '.']).next().unwrap();
        refused(&format!("{SHADOW}\n{key}"), &["line 3", &format!("`{name}` says nothing where")]);
    }
    refused(
        &format!("{SHADOW}\n[[plugin]]\n{SHADOW}"),
        &["line 6", "`p` has a kernel shadow already"],
    );
    let setup = Setup::new().with("p.wasm", holding("0x277"), "");
    let error = setup.with_keys("shadow-of = \"q\"\nkernel = true").load().err().unwrap();
    assert!(error.contains("names no plugin of this profile; its plugins are `p`"), "{error}");
}
