//! Plugins that want to be called at a time.

use std::sync::atomic::Ordering;

use wasmsr_interface::{MsrHandler, Outcome, VcpuId};

use crate::fixture::{Setup, failures_at_no_access, plugin, read, write};

const MS: u64 = 1_000_000;

/// A write asks for a timer at its value; a read gives how often it came. A
/// timer at an odd time traps.
fn timed(scope: &str) -> Vec<u8> {
    let manifest = format!(
        "[[msr]]\nrange = \"0x10\"\nscope = \"{scope}\"\n[needs]\ncapabilities = [\"timer\"]"
    );
    let body = "
        (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
        (global $at (mut i64) (i64.const 0))
        (global $fired (mut i64) (i64.const 0))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (global.get $fired))
        (func (export \"wrmsr\") (param i32 i64 i32 i32)
          (global.set $at (local.get 1))
          (drop (call $timer (local.get 1))))
        (func (export \"timer\")
          (if (i64.eq (i64.and (global.get $at) (i64.const 1)) (i64.const 1)) (then (unreachable)))
          (global.set $fired (i64.add (global.get $fired) (i64.const 1))))";
    plugin("timed", &manifest, body)
}

fn setup(scope: &str) -> Setup {
    Setup::new().with("t.wasm", timed(scope), "grant = [\"timer\"]")
}

#[test]
fn a_timer_comes_once_on_the_vcpu_that_asked() {
    for scope in ["vcpu", "vm"] {
        let (mut started, host) = setup(scope).start(2);
        let _ = write(&mut started.vcpus[1], 0x10, 50 * MS);
        assert_eq!(*host.wakes.lock().unwrap(), [(VcpuId(1), 50 * MS)]);
        let mut wake_at = |ms: u64| {
            host.now.store(ms * MS, Ordering::Relaxed);
            started.vcpus.iter_mut().for_each(MsrHandler::wake);
            read(&mut started.vcpus[1], 0x10)
        };
        assert_eq!(wake_at(49), Outcome::Value(0), "{scope}: too early");
        assert_eq!(wake_at(50), Outcome::Value(1), "{scope}");
        assert_eq!(wake_at(51), Outcome::Value(1), "{scope}: once");
    }
}

#[test]
fn a_wake_that_comes_early_is_asked_for_again() {
    let (mut started, host) = setup("vcpu").start(1);
    let _ = write(&mut started.vcpus[0], 0x10, 50 * MS);
    host.wakes.lock().unwrap().clear();
    started.vcpus[0].wake();
    assert_eq!(*host.wakes.lock().unwrap(), [(VcpuId(0), 50 * MS)]);
}

#[test]
fn timers_in_the_past_do_not_storm() {
    let (mut started, host) = setup("vcpu").start(1);
    host.now.store(7 * MS, Ordering::Relaxed);
    let _ = write(&mut started.vcpus[0], 0x10, 0);
    assert_eq!(*host.wakes.lock().unwrap(), [(VcpuId(0), 8 * MS)], "a millisecond at least");
}

#[test]
fn a_timer_that_fails_costs_the_plugin_its_instance() {
    let (mut started, host) = setup("vcpu").start(1);
    let _ = write(&mut started.vcpus[0], 0x10, 50 * MS);
    host.now.store(60 * MS, Ordering::Relaxed);
    started.vcpus[0].wake();
    let _ = write(&mut started.vcpus[0], 0x10, 50 * MS + 1);
    host.now.store(70 * MS, Ordering::Relaxed);
    started.vcpus[0].wake();
    assert_eq!(failures_at_no_access(&started), [("timed".to_owned(), 1)]);
    assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(0), "a fresh instance");
}
