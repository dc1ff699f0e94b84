//! `[msr] default = "deny"`: what no plugin claims and the profile does not list is the
//! policy's.

use wasmsr_engine::LoadOptions;
use wasmsr_interface::{Direction, MsrIndex, MsrOp, Outcome, Reason, Unclaimed};

use crate::fixture::{Setup, access, plugin, read, write};

/// Answers 7 to reads of 0x10 and 0x20-0x23; the latter only when turned on, with a write
/// of 1 to 0x10; a write of 0 turns them off again.
fn switching() -> Vec<u8> {
    let manifest = "
[[msr]]
range = \"0x10\"
[[msr]]
range = \"0x20-0x23\"
access = \"r\"
intercept = \"off\"
[needs]
capabilities = [\"intercept\"]";
    let body = "
        (import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 7))
        (func (export \"wrmsr\") (param i32 i64 i32 i32)
          (drop (call $intercept (i32.const 0x20) (i32.const 0x23) (i32.const 1)
            (i32.wrap_i64 (local.get 1)))))";
    plugin("switching", manifest, body)
}

fn setup(policy: &str) -> Setup {
    Setup::new().head(&format!("[msr]\ndefault = \"deny\"\n{policy}\n")).with(
        "s.wasm",
        switching(),
        "grant = [\"intercept\"]",
    )
}

#[test]
fn the_exit_list_has_the_claims_and_what_is_allowed() {
    let engine = setup("allow = [\"0x277\", { range = \"0x20\", access = \"r\" }]").load().unwrap();
    let exits = engine.exits();
    let claims: Vec<String> = exits.claims.iter().map(|claim| claim.range.to_string()).collect();
    assert_eq!(claims, ["0x10", "0x10"]);
    let Unclaimed::Exit(allowed) = &exits.unclaimed else { panic!("everything else exits") };
    assert_eq!(allowed.len(), 2);
    assert!(!exits.unclaimed.exits(MsrIndex(0x20), Direction::Read));
    assert!(exits.unclaimed.exits(MsrIndex(0x20), Direction::Write));
}

#[test]
fn what_is_neither_claimed_nor_allowed_is_the_policys() {
    for (policy, outcome) in [
        ("", Outcome::Fault),
        ("unknown = \"ignore\"", Outcome::Value(0)),
        ("unknown = \"kernel\"", Outcome::Kernel),
        ("invalid = \"ignore\"", Outcome::Fault),
        ("[[msr.override]]\nrange = \"0x30\"\nread = \"ignore\"", Outcome::Value(0)),
    ] {
        assert_eq!(read(&mut setup(policy).one(), 0x30), outcome, "{policy}");
    }
    let Outcome::Stop(text) = write(&mut setup("unknown = \"stop\"").one(), 0x30, 1) else {
        panic!("no stop")
    };
    assert!(text.contains("0x30") && text.contains("reason filter"), "{text}");
    assert_eq!(read(&mut setup("unknown = \"ignore\"").one(), 0x10), Outcome::Value(7));
}

#[test]
fn what_a_plugin_turns_off_is_the_policys_unless_it_is_allowed() {
    let (mut started, _) = setup("unknown = \"ignore\"\nallow = [\"0x23\"]").start(1);
    let vcpu = &mut started.vcpus[0];
    // Off at the start of a boot.
    assert_eq!(read(vcpu, 0x20), Outcome::Value(0));
    let _ = write(vcpu, 0x10, 1);
    assert_eq!(read(vcpu, 0x20), Outcome::Value(7));
    assert_eq!(read(vcpu, 0x23), Outcome::Value(7));
    let _ = write(vcpu, 0x10, 0);
    assert_eq!(read(vcpu, 0x20), Outcome::Value(0));
    // The filter lets this one pass: the access was pending when it was turned off.
    assert_eq!(read(vcpu, 0x23), Outcome::Value(7));
}

#[test]
fn changed_exits_still_deny_all_else() {
    let (mut started, host) = setup("allow = [\"0x277\"]").start(1);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x10, 1);
    let told = host.exits.lock().unwrap().clone();
    assert!(told.is_none_or(|exits| matches!(exits.unclaimed, Unclaimed::Exit(_))));
    vcpu.reset().unwrap();
    let told = host.exits.lock().unwrap().clone().unwrap();
    assert!(matches!(&told.unclaimed, Unclaimed::Exit(allowed) if allowed.len() == 1));
    assert_eq!(told.claims.len(), 2);
}

#[test]
fn a_plugin_that_yields_leaves_its_msrs_to_kvm() {
    let setup = Setup::new().head("[msr]\ndefault = \"deny\"\n").with(
        "s.wasm",
        switching(),
        "grant = [\"intercept\"]\nkernel-from = \"6.1\"",
    );
    let options = LoadOptions { host_kernel: "6.1".parse().ok(), cache: None };
    let engine = wasmsr_engine::Engine::load(&setup.profile(), &options).unwrap();
    let unclaimed = &engine.exits().unclaimed;
    assert!(!unclaimed.exits(MsrIndex(0x10), Direction::Write));
    assert!(!unclaimed.exits(MsrIndex(0x23), Direction::Read));
    assert!(unclaimed.exits(MsrIndex(0x23), Direction::Write));
}

#[test]
fn kvms_own_refusal_is_still_a_fault() {
    let mut vcpu = setup("unknown = \"kernel\"\ninvalid = \"kernel\"").one();
    assert_eq!(access(&mut vcpu, 0x30, MsrOp::Read, Reason::Unknown), Outcome::Fault);
    assert_eq!(access(&mut vcpu, 0x30, MsrOp::Write(1), Reason::Invalid), Outcome::Fault);
}

#[test]
fn a_list_without_the_default_is_refused() {
    let path = std::path::Path::new("vm.toml");
    let error = wasmsr_engine::Profile::parse(path, "[msr]\nallow = [1]\n").unwrap_err();
    assert!(error.to_string().contains("add `default = \"deny\"`"), "{error}");
}
