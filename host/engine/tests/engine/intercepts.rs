//! Intercepts that a plugin changes while the guest runs.

use wasmsr_interface::{MsrOp, Outcome, Reason};

use crate::fixture::{Setup, TestHost, access, plugin, read, write};

/// Claims 0x10 at once and reserves 0x20-0x2f. A write of
/// `first | last << 16 | directions << 32 | on << 34` to 0x10 calls
/// `intercept`; a read of 0x10 gives its result; any other read gives 5.
fn switching() -> Vec<u8> {
    let manifest = "
[[msr]]
range = \"0x10\"
[[msr]]
range = \"0x20-0x2f\"
access = \"r\"
intercept = \"off\"
[needs]
capabilities = [\"intercept\"]";
    let body = "
        (import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (global $result (mut i32) (i32.const -1))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (if (i32.ne (local.get 0) (i32.const 0x10)) (then (return (i64.const 5))))
          (i64.extend_i32_u (global.get $result)))
        (func $bits (param $value i64) (param $shift i64) (param $mask i64) (result i32)
          (i32.wrap_i64 (i64.and (i64.shr_u (local.get $value) (local.get $shift)) (local.get $mask))))
        (func (export \"wrmsr\") (param i32 i64 i32 i32)
          (global.set $result (call $intercept
            (call $bits (local.get 1) (i64.const 0) (i64.const 0xffff))
            (call $bits (local.get 1) (i64.const 16) (i64.const 0xffff))
            (call $bits (local.get 1) (i64.const 32) (i64.const 3))
            (call $bits (local.get 1) (i64.const 34) (i64.const 1)))))";
    plugin("switching", manifest, body)
}

/// What the host was told last.
fn exits(host: &TestHost) -> Vec<String> {
    let exits = host.exits.lock().unwrap().clone().unwrap_or_default();
    exits.claims.iter().map(|c| format!("{} {}", c.range, c.directions)).collect()
}

fn setup() -> Setup {
    Setup::new().with("s.wasm", switching(), "grant = [\"intercept\"]\non-failure = \"stop\"")
}

const READS: u64 = 1 << 32;
const ON: u64 = 1 << 34;

/// What `intercept` says.
fn switch(vcpu: &mut wasmsr_engine::VcpuDispatch, first: u64, last: u64, rest: u64) -> Outcome {
    assert_eq!(write(vcpu, 0x10, first | last << 16 | rest), Outcome::Done);
    read(vcpu, 0x10)
}

#[test]
fn what_is_reserved_does_not_exit_until_it_is_turned_on() {
    let setup = setup();
    let at_start = setup.load().unwrap().exits().clone();
    assert_eq!(at_start.claims.len(), 2);
    assert!(at_start.claims.iter().all(|claim| claim.range.to_string() == "0x10"));

    let (mut started, host) = setup.start(1);
    let vcpu = &mut started.vcpus[0];
    assert_eq!(switch(vcpu, 0x22, 0x23, READS | ON), Outcome::Value(0));
    assert_eq!(exits(&host), ["0x10 r", "0x22-0x23 r", "0x10 w"]);
    assert_eq!(read(vcpu, 0x22), Outcome::Value(5));

    assert_eq!(switch(vcpu, 0x22, 0x22, READS), Outcome::Value(0));
    assert_eq!(exits(&host), ["0x10 r", "0x23 r", "0x10 w"]);
}

#[test]
fn a_pending_access_is_still_the_plugins() {
    let (mut started, _) = setup().start(1);
    let vcpu = &mut started.vcpus[0];
    let _ = switch(vcpu, 0x22, 0x22, READS | ON);
    let _ = switch(vcpu, 0x22, 0x22, READS);
    // Sent here by the filter as it was before.
    assert_eq!(read(vcpu, 0x22), Outcome::Value(5));
    // Sent here because KVM does not know it: no plugin answers that.
    assert_eq!(access(vcpu, 0x22, MsrOp::Read, Reason::Unknown), Outcome::Fault);
}

#[test]
fn a_plugin_moves_only_what_it_claims() {
    let (mut started, host) = setup().start(1);
    let vcpu = &mut started.vcpus[0];
    for (first, last, rest) in [
        (0x30, 0x30, READS | ON),
        (0x2f, 0x30, READS | ON),
        (0x10, 0x20, READS | ON),
        (0x20, 0x20, READS << 1 | ON),
        (0x21, 0x20, READS | ON),
    ] {
        assert_eq!(switch(vcpu, first, last, rest), Outcome::Value(1), "{first:#x}-{last:#x}");
    }
    assert!(host.exits.lock().unwrap().is_none());
    let Outcome::Stop(text) = write(vcpu, 0x10, 0x20 | 0x20 << 16 | ON) else { panic!("no stop") };
    assert!(text.contains("directions 0"), "{text}");
}

#[test]
fn what_the_filter_cannot_hold_changes_nothing() {
    let (mut started, host) = setup().start(1);
    let vcpu = &mut started.vcpus[0];
    assert_eq!(switch(vcpu, 0x20, 0x2f, READS | ON), Outcome::Value(2), "the host holds ten");
    assert!(host.exits.lock().unwrap().is_none());
    assert_eq!(switch(vcpu, 0x20, 0x22, READS | ON), Outcome::Value(0));
}

#[test]
fn a_boot_starts_with_what_the_manifest_says() {
    let setup = setup();
    let _ = switch(&mut setup.one(), 0x20, 0x20, READS | ON);
    let (mut started, _) = setup.start(1);
    assert_eq!(access(&mut started.vcpus[0], 0x20, MsrOp::Read, Reason::Unknown), Outcome::Fault);
}

#[test]
fn what_was_on_is_on_again_after_a_restore() {
    use std::sync::Arc;

    use wasmsr_interface::Host;

    let setup = setup();
    let (mut started, _) = setup.start(1);
    let _ = switch(&mut started.vcpus[0], 0x22, 0x23, READS | ON);
    let engine = setup.load().unwrap();
    let saved = engine.save(&mut started.vcpus).unwrap();
    let host = Arc::new(TestHost::default());
    let as_host: Arc<dyn Host> = host.clone();
    let mut restored = engine.restore(&as_host, 1, &saved).unwrap();
    assert_eq!(exits(&host), ["0x10 r", "0x22-0x23 r", "0x10 w"]);
    assert_eq!(
        access(&mut restored.vcpus[0], 0x22, MsrOp::Read, Reason::Unknown),
        Outcome::Value(5)
    );
}

#[test]
fn a_reset_of_the_first_vcpu_sets_them_back() {
    let (mut started, host) = setup().start(2);
    let _ = switch(&mut started.vcpus[1], 0x22, 0x23, READS | ON);
    started.vcpus[1].reset().unwrap();
    assert_eq!(exits(&host), ["0x10 r", "0x22-0x23 r", "0x10 w"]);
    started.vcpus[0].reset().unwrap();
    assert_eq!(exits(&host), ["0x10 r", "0x10 w"]);
    for vcpu in &mut started.vcpus {
        assert_eq!(access(vcpu, 0x22, MsrOp::Read, Reason::Unknown), Outcome::Fault);
    }
}

/// Claims more MSRs from the start than the host holds later. A write turns all
/// but four off.
fn many() -> Setup {
    let manifest = "
[[msr]]
range = \"0x10\"
[[msr]]
range = \"0x20-0x2f\"
access = \"r\"
[needs]
capabilities = [\"intercept\"]";
    let body = "
        (import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (func $narrow
          (drop (call $intercept (i32.const 0x24) (i32.const 0x2f) (i32.const 1) (i32.const 0))))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))
        (func (export \"wrmsr\") (param i32 i64 i32 i32) (call $narrow))";
    Setup::new().with("m.wasm", plugin("many", manifest, body), "grant = [\"intercept\"]")
}

#[test]
fn a_reset_that_the_vmm_refuses_leaves_what_exits_as_it_is() {
    let (mut started, host) = many().start(1);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x10, 0);
    let narrowed = ["0x10 r", "0x20-0x23 r", "0x10 w"];
    assert_eq!(exits(&host), narrowed);
    let error = vcpu.reset().unwrap_err().to_string();
    assert!(error.contains("18 MSRs are too many"), "{error}");
    assert_eq!(exits(&host), narrowed);
    assert_eq!(access(vcpu, 0x24, MsrOp::Read, Reason::Unknown), Outcome::Fault, "still off");
    assert_eq!(access(vcpu, 0x23, MsrOp::Read, Reason::Unknown), Outcome::Value(5), "still on");
}

#[test]
fn what_init_turns_on_is_on_after_a_reset() {
    let body = "
        (import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (func (export \"init\") (param i32) (result i32)
          (call $intercept (i32.const 0x20) (i32.const 0x20) (i32.const 1) (i32.const 1)))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))";
    let manifest = "
[[msr]]
range = \"0x20-0x2f\"
access = \"r\"
intercept = \"off\"
[needs]
capabilities = [\"intercept\"]";
    let setup = Setup::new().with("p.wasm", plugin("p", manifest, body), "grant = [\"intercept\"]");
    let (mut started, host) = setup.start(2);
    // No access would come to bring a fresh instance to life.
    started.vcpus.iter_mut().for_each(|vcpu| vcpu.reset().unwrap());
    assert_eq!(exits(&host), ["0x20 r"]);
}
