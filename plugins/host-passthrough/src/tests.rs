mod model;

use alloc::string::ToString;

use wasmsr_sdk::log::Level;
use wasmsr_sdk::native::{Host, access};

use super::*;

const PLATFORM_ID: Access = access(0x17);
const PLATFORM_INFO: Access = access(0xce);
const MISC_ENABLE: Access = access(0x1a0);
const PERF_STATUS: Access = access(0x198);

const CONFIG: &str = r#"{"msrs": [
    {"range": "0x17", "access": "r", "from": 1},
    {"range": "0xce", "when": "boot", "mask": "0xff00"},
    {"range": "0x1a0-0x1a1", "write": "keep"},
    {"range": "0x198", "write": "ignore"}
]}"#;

fn host() -> Host {
    let host = Host::fresh();
    host.set_host_cpus(2);
    host.set_host_msr(PLATFORM_ID.index, 1 << 50);
    host.set_host_msr_on(1, PLATFORM_ID.index, 2 << 50);
    host.set_host_msr(PLATFORM_INFO.index, 0x8083_f3f1_1800);
    host.set_host_msr(MISC_ENABLE.index, 0x85_0089);
    host.set_host_msr(PERF_STATUS.index, 0x2000);
    host
}

fn loaded(host: &Host) -> HostPassthrough {
    host.load(CONFIG).unwrap()
}

#[test]
fn live_values_are_the_hosts_of_the_moment() {
    let host = host();
    let mut plugin = loaded(&host);
    assert_eq!(plugin.rdmsr(PERF_STATUS), Ok(0x2000));
    host.set_host_msr(PERF_STATUS.index, 0x1800);
    assert_eq!(plugin.rdmsr(PERF_STATUS), Ok(0x1800));
}

#[test]
fn a_cpu_may_be_chosen() {
    assert_eq!(loaded(&host()).rdmsr(PLATFORM_ID), Ok(2 << 50));
}

#[test]
fn copies_are_the_hosts_of_the_boot() {
    let host = host();
    let mut plugin = loaded(&host);
    host.set_host_msr(PLATFORM_INFO.index, 0);
    assert_eq!(plugin.rdmsr(PLATFORM_INFO), Ok(0x1800), "as far as the mask goes");
    plugin.reset();
    assert_eq!(plugin.rdmsr(PLATFORM_INFO), Ok(0));
}

#[test]
fn writes_fault_unless_said_otherwise() {
    let mut plugin = loaded(&host());
    for value in [0, 0x1800, u64::MAX] {
        assert_eq!(plugin.wrmsr(PLATFORM_INFO, value), Err(Otherwise::Fault));
        assert_eq!(plugin.wrmsr(PERF_STATUS, value), Ok(()));
        assert_eq!(plugin.wrmsr(PLATFORM_ID, value), Err(Otherwise::Kernel));
    }
    assert_eq!(plugin.rdmsr(PLATFORM_INFO), Ok(0x1800));
    assert_eq!(plugin.rdmsr(PERF_STATUS), Ok(0x2000));
}

#[test]
fn a_kept_write_shows_to_the_guest_alone() {
    let host = host();
    let mut plugin = loaded(&host);
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(0x85_0089));
    assert_eq!(plugin.wrmsr(MISC_ENABLE, u64::MAX), Ok(()));
    host.set_host_msr(MISC_ENABLE.index, 1);
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(u64::MAX));
    // Another vCPU has another instance.
    assert_eq!(loaded(&host).rdmsr(MISC_ENABLE), Ok(1));
    plugin.reset();
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(1));
}

#[test]
fn what_the_host_lacks_is_not_there_to_be_written() {
    let mut plugin = loaded(&host());
    assert_eq!(plugin.rdmsr(access(0x1a1)), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x1a1), 1), Err(Otherwise::Fault));
    assert_eq!(plugin.rdmsr(access(0x1a1)), Err(Otherwise::Fault));
}

#[test]
fn unlisted_msrs_are_passed_on() {
    let mut plugin = loaded(&host());
    for index in [0, 0x16, 0x18, 0xcd, 0xcf, 0x1a2, u32::MAX] {
        assert_eq!(plugin.rdmsr(access(index)), Err(Otherwise::Pass), "{index:#x}");
        assert_eq!(plugin.wrmsr(access(index), 0), Err(Otherwise::Pass), "{index:#x}");
    }
}

#[test]
fn a_live_msr_that_cannot_be_read_is_told_once() {
    let host = host();
    loaded(&host);
    let warned = host.logged();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].0 == Level::Warn && warned[0].1.contains("0x1a1"), "{warned:?}");
    host.load_for::<HostPassthrough>(Some(VcpuId(1)), CONFIG).unwrap();
    assert_eq!(host.logged().len(), 1);
}

#[test]
fn a_copy_outlives_a_host_that_stops_to_answer() {
    let mut plugin = loaded(&host());
    let host = Host::fresh();
    plugin.reset();
    assert_eq!(plugin.rdmsr(PLATFORM_INFO), Ok(0x1800));
    let (level, line) = host.logged().pop().unwrap();
    assert!(level == Level::Error && line.contains("0xce"), "{line}");
}

#[test]
fn a_newer_instance_takes_copies_and_kept_values_over() {
    let host = host();
    let mut old = loaded(&host);
    old.wrmsr(MISC_ENABLE, 7).unwrap();
    let saved = host.save(&old, "0.1.0").unwrap();
    host.set_host_msr(PLATFORM_INFO.index, 0);
    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    assert_eq!(new.rdmsr(PLATFORM_INFO), Ok(0x1800));
    assert_eq!(new.rdmsr(MISC_ENABLE), Ok(7));
    assert_eq!(new.rdmsr(PERF_STATUS), Ok(0x2000));
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let host = host();
    let mut old = loaded(&host);
    old.wrmsr(MISC_ENABLE, 7).unwrap();
    let saved = host.save(&old, "0.1.0").unwrap();
    for (from, to, msr) in [
        (r#""when": "boot""#, r#""when": "read""#, "0xce"),
        (r#""mask": "0xff00""#, r#""mask": "0xff""#, "0xce"),
        (r#""range": "0xce""#, r#""range": "0x198""#, "0xce"),
        (r#""write": "keep""#, r#""write": "ignore""#, "0x1a0"),
    ] {
        let config = CONFIG.replace(from, to).replace(
            r#",
    {"range": "0x198", "write": "ignore"}"#,
            "",
        );
        let mut new: HostPassthrough = host.load(&config).unwrap();
        let error = new.restore(&saved).unwrap_err().to_string();
        assert!(error.contains(msr) && error.contains("no longer"), "{config}: {error}");
    }
}
