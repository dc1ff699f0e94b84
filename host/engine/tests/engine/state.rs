//! Plugins that are saved in one VM and carry on in another.

use std::sync::Arc;

use wasmsr_engine::{Engine, LoadOptions, SavedState};
use wasmsr_interface::{Host, Outcome};

use crate::fixture::{Setup, TestHost, failures_at_no_access, plugin, read, write};

/// Counts its reads; a write sets the count. Saves the count, and refuses a
/// state that is not eight bytes long.
pub(crate) fn counter(version: &str, scope: &str) -> Vec<u8> {
    let manifest = format!("[[msr]]\nrange = \"0x10\"\nscope = \"{scope}\"");
    let body = "
        (import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
        (import \"wasmsr\" \"saved_state\" (func $saved (param i32 i32) (result i32)))
        (import \"wasmsr\" \"saved_version\" (func $version (param i32 i32) (result i32)))
        (global $count (mut i64) (i64.const 0))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (global.set $count (i64.add (global.get $count) (i64.const 1)))
          (global.get $count))
        (func (export \"wrmsr\") (param i32 i64 i32 i32) (global.set $count (local.get 1)))
        (func (export \"save\") (result i32)
          (i64.store (i32.const 0) (global.get $count))
          (call $save (i32.const 0) (i32.const 8)))
        (func (export \"restore\") (result i32)
          (if (i32.ne (call $saved (i32.const 0) (i32.const 8)) (i32.const 8))
            (then (return (i32.const 1))))
          (drop (call $version (i32.const 16) (i32.const 16)))
          (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 57)) (then (return (i32.const 2))))
          (global.set $count (i64.load (i32.const 0)))
          (i32.const 0))";
    with_version(plugin("counter", &manifest, body), version)
}

fn engine(setup: &Setup) -> Engine {
    Engine::load(&setup.profile(), &LoadOptions::default()).unwrap()
}

fn host() -> Arc<dyn Host> {
    Arc::new(TestHost::default())
}

/// Saved at every point of a run of accesses, and carried on in a fresh VM,
/// the run gives what it would have given undisturbed.
#[test]
fn a_run_of_accesses_carries_on_elsewhere_with_nothing_lost() {
    for scope in ["vcpu", "vm"] {
        let setup = Setup::new().with("c.wasm", counter("1.0.0", scope), "");
        let engine = engine(&setup);
        let run = |stop_at: Option<usize>| {
            let mut vcpus = engine.start(&host(), 2).unwrap().vcpus;
            let mut seen = Vec::new();
            for step in 0..12 {
                if stop_at == Some(step) {
                    let bytes = engine.save(&mut vcpus).unwrap().to_bytes().unwrap();
                    drop(vcpus);
                    let saved = SavedState::from_bytes(&bytes).unwrap();
                    vcpus = engine.restore(&host(), 2, &saved).unwrap().vcpus;
                }
                let vcpu = &mut vcpus[step % 2];
                seen.push(if step == 5 { write(vcpu, 0x10, 100) } else { read(vcpu, 0x10) });
            }
            seen
        };
        let undisturbed = run(None);
        assert_eq!(undisturbed[11], Outcome::Value(if scope == "vm" { 106 } else { 103 }));
        for step in 0..12 {
            assert_eq!(run(Some(step)), undisturbed, "{scope}, saved before step {step}");
        }
    }
}

#[test]
fn a_newer_version_takes_over_and_may_refuse() {
    let old = engine(&Setup::new().with("c.wasm", counter("1.0.0", "vcpu"), ""));
    let mut vcpus = old.start(&host(), 1).unwrap().vcpus;
    let _ = write(&mut vcpus[0], 0x10, 41);
    let saved = old.save(&mut vcpus).unwrap();

    let new_setup = Setup::new().with("c.wasm", counter("2.0.0", "vcpu"), "");
    let new = engine(&new_setup);
    let mut vcpus = new.restore(&host(), 1, &saved).unwrap().vcpus;
    assert_eq!(read(&mut vcpus[0], 0x10), Outcome::Value(42));

    // Version 9 is what this plugin's `restore` refuses.
    let nine = engine(&Setup::new().with("c.wasm", counter("9.0.0", "vcpu"), ""));
    let saved = nine.save(&mut nine.start(&host(), 1).unwrap().vcpus).unwrap();
    let error = new.restore(&host(), 1, &saved).err().unwrap().to_string();
    for part in ["`counter`", "version 9.0.0", "`restore` returned 2"] {
        assert!(error.contains(part), "{error}");
    }
}

/// Saves the count, and 100 more if it is for an older version; refuses to write for
/// version 0.x.
const WRITES_FOR_OLDER: &str = "
    (import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
    (import \"wasmsr\" \"save_version\" (func $for (param i32 i32) (result i32)))
    (global $count (mut i64) (i64.const 7))
    (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $count))
    (func (export \"save\") (result i32)
      (if (call $for (i32.const 16) (i32.const 16))
        (then
          (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 48))
            (then (return (i32.const 3))))
          (global.set $count (i64.add (global.get $count) (i64.const 100)))))
      (i64.store (i32.const 0) (global.get $count))
      (call $save (i32.const 0) (i32.const 8)))
    (func (export \"restore\") (result i32) (i32.const 0))";

fn counter_that_writes_for_older(version: &str) -> Vec<u8> {
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"";
    with_version(plugin("counter", manifest, WRITES_FOR_OLDER), version)
}

fn with_version(mut bytes: Vec<u8>, version: &str) -> Vec<u8> {
    let at = bytes.windows(5).position(|w| w == b"1.0.0").unwrap();
    bytes[at..at + 5].copy_from_slice(version.as_bytes());
    bytes
}

#[test]
fn a_plugin_writes_its_state_for_the_older_version_that_comes_back() {
    let load = |bytes: Vec<u8>| engine(&Setup::new().with("c.wasm", bytes, ""));
    let new = load(counter_that_writes_for_older("2.0.0"));
    let counts = |next: &Engine| {
        let mut vcpus = new.start(&host(), 1).unwrap().vcpus;
        let saved = new.save_for(&mut vcpus, next).unwrap();
        read(&mut next.restore(&host(), 1, &saved).unwrap().vcpus[0], 0x10)
    };
    assert_eq!(counts(&load(counter("1.0.0", "vcpu"))), Outcome::Value(108));
    assert_eq!(counts(&load(counter("2.0.0", "vcpu"))), Outcome::Value(8));
    assert_eq!(counts(&load(counter("3.0.0", "vcpu"))), Outcome::Value(8));

    let mut vcpus = new.start(&host(), 1).unwrap().vcpus;
    let error = new.save_for(&mut vcpus, &load(counter("0.9.0", "vcpu"))).unwrap_err().to_string();
    assert!(error.contains("`counter`") && error.contains("`save` returned 3"), "{error}");
    // A refusal leaves it as it was, for a file too.
    let saved = new.save(&mut vcpus).unwrap();
    let mut vcpus = load(counter("1.0.0", "vcpu")).restore(&host(), 1, &saved).unwrap().vcpus;
    assert_eq!(read(&mut vcpus[0], 0x10), Outcome::Value(8));
}

/// The older version learns its own number if the newer one has asked for which it
/// writes, and else the newer one's; it refuses 9.
#[test]
fn a_state_has_the_version_for_which_it_was_written() {
    let load = |bytes: Vec<u8>| engine(&Setup::new().with("c.wasm", bytes, ""));
    let one = load(counter("1.0.0", "vcpu"));
    for (nine, refused) in [
        (load(counter_that_writes_for_older("9.0.0")), false),
        (load(counter("9.0.0", "vcpu")), true),
    ] {
        let mut vcpus = nine.start(&host(), 1).unwrap().vcpus;
        let saved = nine.save_for(&mut vcpus, &one).unwrap();
        assert_eq!(one.restore(&host(), 1, &saved).is_err(), refused);
    }
}

#[test]
fn the_version_to_write_for_is_told_within_save_and_within_memory() {
    let asks_at = |version: &str, at: u32| {
        let body = format!(
            "(import \"wasmsr\" \"save_version\" (func $for (param i32 i32) (result i32)))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
               (i64.extend_i32_u (call $for (i32.const 0) (i32.const 8))))
             (func (export \"save\") (result i32) (call $for (i32.const {at}) (i32.const 16)))"
        );
        let bytes = plugin("p", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", &body);
        let bytes = with_version(bytes, version);
        engine(&Setup::new().with("p.wasm", bytes, "on-failure = \"stop\""))
    };
    let one = asks_at("1.0.0", 0);
    for (at, part) in [(65531, "`save` returned 5"), (65532, "outside the plugin's memory")] {
        let two = asks_at("2.0.0", at);
        let mut vcpus = two.start(&host(), 1).unwrap().vcpus;
        let error = two.save_for(&mut vcpus, &one).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut vcpus = one.start(&host(), 1).unwrap().vcpus;
    let Outcome::Stop(text) = read(&mut vcpus[0], 0x10) else { panic!("no stop") };
    assert!(text.contains("outside `save`"), "{text}");
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let two = engine(&Setup::new().with("c.wasm", counter("1.0.0", "vcpu"), ""));
    let saved = two.save(&mut two.start(&host(), 2).unwrap().vcpus).unwrap();
    let error = two.restore(&host(), 1, &saved).err().unwrap().to_string();
    assert!(error.contains("vCPU 1") && error.contains("`counter`"), "{error}");

    let reads = "[[msr]]\nrange = \"0x11\"\naccess = \"r\"";
    let rdmsr = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))";
    let other = engine(&Setup::new().with("o.wasm", plugin("other", reads, rdmsr), ""));
    let error = other.restore(&host(), 2, &saved).err().unwrap().to_string();
    assert!(error.contains("`counter`"), "{error}");

    let forgetful = plugin("counter", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", rdmsr);
    let forgetful = engine(&Setup::new().with("c.wasm", forgetful, ""));
    let error = forgetful.restore(&host(), 2, &saved).err().unwrap().to_string();
    assert!(error.contains("no export `restore`"), "{error}");
}

#[test]
fn a_plugin_cannot_save_more_than_its_share() {
    let body = "
        (import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (i64.extend_i32_u (call $save (i32.const 0) (i32.const 8))))
        (func (export \"save\") (result i32)
          (drop (memory.grow (i32.const 2)))
          (call $save (i32.const 0) (i32.const 65537)))";
    let bytes = plugin("big", "[[msr]]\nrange = \"0x10\"\naccess = \"r\"", body);
    let setup = Setup::new().with("big.wasm", bytes, "on-failure = \"stop\"");
    let engine = engine(&setup);
    let mut vcpus = engine.start(&host(), 1).unwrap().vcpus;
    let error = engine.save(&mut vcpus).unwrap_err().to_string();
    assert!(error.contains("`big`") && error.contains("`save` returned 1"), "{error}");
    // Nor at any other time than when it is asked to.
    let Outcome::Stop(text) = read(&mut vcpus[0], 0x10) else { panic!("no stop") };
    assert!(text.contains("outside `save`"), "{text}");
}

#[test]
fn a_reset_is_the_plugins_own_or_a_fresh_instance() {
    let values = "
        (global $value (mut i64) (i64.const 1))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $value))
        (func (export \"wrmsr\") (param i32 i64 i32 i32) (global.set $value (local.get 1)))";
    let own = format!("{values} (func (export \"reset\") (global.set $value (i64.const 7)))");
    for (body, after) in [(values, 1), (own.as_str(), 7)] {
        let bytes = plugin("p", "[[msr]]\nrange = \"0x10\"", body);
        let mut vcpu = Setup::new().with("p.wasm", bytes, "").one();
        let _ = write(&mut vcpu, 0x10, 99);
        vcpu.reset().unwrap();
        assert_eq!(read(&mut vcpu, 0x10), Outcome::Value(after));
    }
}

#[test]
fn a_reset_that_fails_is_counted_and_leaves_a_fresh_instance() {
    let body = "
        (global $value (mut i64) (i64.const 1))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $value))
        (func (export \"wrmsr\") (param i32 i64 i32 i32) (global.set $value (local.get 1)))
        (func (export \"reset\") unreachable)";
    let bytes = plugin("p", "[[msr]]\nrange = \"0x10\"", body);
    let (mut started, _) = Setup::new().with("p.wasm", bytes, "").start(1);
    let vcpu = &mut started.vcpus[0];
    let _ = write(vcpu, 0x10, 99);
    vcpu.reset().unwrap();
    assert_eq!(read(vcpu, 0x10), Outcome::Value(1));
    assert_eq!(failures_at_no_access(&started), [("p".to_owned(), 1)]);
}

#[test]
fn state_comes_back_under_the_name_that_the_profile_gives() {
    let named = |first: &str, second: &str| {
        let setup =
            Setup::new().with("c.wasm", counter("1.0.0", "vcpu"), &format!("name = \"{first}\""));
        let other = plugin(
            "other",
            "[[msr]]\nrange = \"0x20\"\naccess = \"r\"",
            "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))",
        );
        setup.with("o.wasm", other, &format!("name = \"{second}\"")).load().unwrap()
    };
    let engine = named("first", "second");
    let mut started = engine.start(&host(), 1).unwrap();
    let _ = write(&mut started.vcpus[0], 0x10, 77);
    let saved = engine.save(&mut started.vcpus).unwrap();
    let mut same = named("first", "second").restore(&host(), 1, &saved).unwrap();
    assert_eq!(read(&mut same.vcpus[0], 0x10), Outcome::Value(78));
    let error = named("second", "first").restore(&host(), 1, &saved).err().unwrap().to_string();
    assert!(error.contains("`first`"), "{error}");
}
