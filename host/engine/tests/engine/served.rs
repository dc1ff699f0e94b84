//! Which vCPU the host is asked for: the one that is served, whichever instance
//! it is. Another may be in the guest, and the host would wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmsr_interface::{Host, MsrHandler, VcpuId};

use crate::fixture::{Setup, TestHost, plugin, read, start, write};

/// Asks for the TSC whatever it is called for. Reads of 0x11 trap before that,
/// writes ask for a timer.
fn asking(scope: &str, more: &str) -> Setup {
    let manifest = format!(
        "[[msr]]\nrange = \"0x10-0x11\"\nscope = \"{scope}\"\n\
         [needs]\ncapabilities = [\"timer\"]"
    );
    let body = format!(
        "(import \"wasmsr\" \"tsc\" (func $tsc (result i64)))
         (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
         (import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
         (func (export \"init\") (param i32) (result i32) (drop (call $tsc)) (i32.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (if (i32.eq (local.get 0) (i32.const 0x11)) (then unreachable))
           (call $tsc))
         (func (export \"wrmsr\") (param i32 i64 i32 i32) (drop (call $timer (local.get 1))))
         (func (export \"timer\") (drop (call $tsc)))
         (func (export \"save\") (result i32)
           (drop (call $tsc)) (call $save (i32.const 0) (i32.const 1)))
         (func (export \"restore\") (result i32) (drop (call $tsc)) (i32.const 0))
         (func (export \"report\") (drop (call $tsc)))
         {more}"
    );
    Setup::new().with("p.wasm", plugin("p", &manifest, &body), "grant = [\"timer\"]")
}

const RESET: &str = "(func (export \"reset\") (drop (call $tsc)))";

const NO_VCPU: [u32; 0] = [];

/// The vCPUs that `host` was asked for since the last time.
fn asked(host: &TestHost) -> Vec<u32> {
    host.asked.lock().unwrap().drain(..).map(|VcpuId(vcpu)| vcpu).collect()
}

#[test]
fn a_fresh_instance_of_the_vm_asks_for_the_vcpu_that_meets_it() {
    let (mut started, host) = asking("vm", RESET).start(2);
    assert_eq!(asked(&host), [0], "the first starts it");
    let _ = read(&mut started.vcpus[1], 0x11);
    assert_eq!(asked(&host), NO_VCPU, "it trapped");
    let _ = read(&mut started.vcpus[1], 0x10);
    assert_eq!(asked(&host), [1, 1], "init and the read");
    let _ = read(&mut started.vcpus[0], 0x10);
    assert_eq!(asked(&host), [0]);
}

#[test]
fn the_vms_instance_is_otherwise_called_for_the_first_vcpu() {
    for more in [RESET, ""] {
        let setup = asking("vm", more);
        let engine = setup.load().unwrap();
        let (mut started, host) = start(&engine, 2);
        let _ = write(&mut started.vcpus[1], 0x10, 0);
        asked(&host);
        host.now.store(u64::MAX / 2, Ordering::Relaxed);
        started.vcpus.iter_mut().for_each(MsrHandler::wake);
        assert_eq!(asked(&host), [1], "but its timer comes where it was asked for");
        let saved = engine.save(&mut started.vcpus).unwrap();
        assert_eq!(asked(&host), [0], "save");
        let _ = read(&mut started.vcpus[1], 0x10);
        asked(&host);
        started.vcpus[1].reset().unwrap();
        assert_eq!(asked(&host), NO_VCPU);
        started.vcpus[0].reset().unwrap();
        assert_eq!(asked(&host), [0], "reset `{more}`, or init at once");
        let _ = read(&mut started.vcpus[1], 0x10);
        asked(&host);
        started.vcpus.iter_mut().for_each(MsrHandler::end);
        assert_eq!(asked(&host), [0], "report");

        let host = Arc::new(TestHost::default());
        let as_host: Arc<dyn Host> = host.clone();
        engine.restore(&as_host, 2, &saved).unwrap();
        assert_eq!(asked(&host), [0, 0], "init and restore");
    }
}

#[test]
fn a_vcpus_own_instance_asks_for_it_alone() {
    for more in [RESET, ""] {
        let setup = asking("vcpu", more);
        let engine = setup.load().unwrap();
        let (mut started, host) = start(&engine, 2);
        assert_eq!(asked(&host), [0, 1], "init");
        let _ = read(&mut started.vcpus[1], 0x11);
        let _ = read(&mut started.vcpus[1], 0x10);
        assert_eq!(asked(&host), [1, 1], "init and the read");
        started.vcpus.iter_mut().for_each(|vcpu| vcpu.reset().unwrap());
        assert_eq!(asked(&host), [0, 1], "reset `{more}`, or init at once");
        let saved = engine.save(&mut started.vcpus).unwrap();
        assert_eq!(asked(&host), [0, 1], "save");
        started.vcpus.iter_mut().for_each(MsrHandler::end);
        assert_eq!(asked(&host), [0, 1], "report");

        let host = Arc::new(TestHost::default());
        let as_host: Arc<dyn Host> = host.clone();
        engine.restore(&as_host, 2, &saved).unwrap();
        assert_eq!(asked(&host), [0, 1, 0, 1], "init and restore");
    }
}
