//! The whole plugin, on a scripted host.

extern crate std;

mod learning;
mod model;
mod state;

use std::format;
use std::string::String;
use std::vec::Vec;

use wasmsr_sdk::native::Host;
use wasmsr_sdk::{MsrIndex, Reason, VcpuId};

use super::*;

/// An access to an MSR that KVM does not know.
const fn unknown(index: u32) -> Access {
    on(index, 0, Reason::Unknown)
}

/// An access that KVM refuses.
const fn invalid(index: u32) -> Access {
    on(index, 0, Reason::Invalid)
}

const fn on(index: u32, vcpu: u32, reason: Reason) -> Access {
    Access::new(MsrIndex(index), VcpuId(vcpu), reason)
}

#[track_caller]
fn loaded(config: &str) -> UnknownLog {
    Host::fresh().load_for(None, config).unwrap()
}

fn lines(host: &Host) -> Vec<String> {
    host.logged().into_iter().map(|(_, line)| line).collect()
}

const RULES: &str = r#"{"rules": [
    {"range": "0x606", "read": "zero", "write": "fault"},
    {"range": "0x610-0x611", "read": "stored", "write": "store", "value": "0xffffffffffffffff"},
    {"range": "0x600-0x6ff", "read": "stored", "write": "store", "shared": true},
    {"range": "0x2ff", "reason": "invalid", "write": "ignore"},
    {"range": "0xc0010000-0xffffffff", "read": "fault", "write": "ignore"}
]}"#;

#[test]
fn the_first_rule_for_an_msr_decides() {
    let mut plugin = loaded(RULES);
    assert_eq!(plugin.rdmsr(unknown(0x606)), Ok(0));
    assert_eq!(plugin.wrmsr(unknown(0x606), 0), Err(Otherwise::Fault));

    assert_eq!(plugin.rdmsr(unknown(0x610)), Ok(u64::MAX));
    assert_eq!(plugin.wrmsr(unknown(0x610), 7), Ok(()));
    assert_eq!(plugin.rdmsr(unknown(0x610)), Ok(7));
    assert_eq!(plugin.rdmsr(unknown(0x611)), Ok(u64::MAX));

    assert_eq!(plugin.rdmsr(unknown(u32::MAX)), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(unknown(u32::MAX), u64::MAX), Ok(()));
}

#[test]
fn values_are_each_vcpus_own_unless_a_rule_shares_them() {
    let mut plugin = loaded(RULES);
    plugin.wrmsr(on(0x610, 0, Reason::Unknown), 7).unwrap();
    plugin.wrmsr(on(0x600, 0, Reason::Unknown), 8).unwrap();
    assert_eq!(plugin.rdmsr(on(0x610, 1, Reason::Unknown)), Ok(u64::MAX));
    assert_eq!(plugin.rdmsr(on(0x600, 1, Reason::Unknown)), Ok(8));
}

#[test]
fn a_rule_may_be_for_one_reason() {
    let mut plugin = loaded(RULES);
    assert_eq!(plugin.wrmsr(invalid(0x2ff), 2), Ok(()));
    assert_eq!(plugin.wrmsr(unknown(0x2ff), 2), Err(Otherwise::Pass));
    // Accesses that a rule does not mention are passed on.
    assert_eq!(plugin.rdmsr(invalid(0x2ff)), Err(Otherwise::Pass));
}

#[test]
fn what_no_rule_is_for_is_passed_on() {
    for config in ["{}", RULES] {
        let mut plugin = loaded(config);
        assert_eq!(plugin.rdmsr(unknown(0x10)), Err(Otherwise::Pass));
        assert_eq!(plugin.wrmsr(invalid(0x10), 1), Err(Otherwise::Pass));
        assert_eq!(plugin.report(), "");
    }
}

#[test]
fn each_msr_and_direction_is_logged_once() {
    let host = Host::fresh();
    let mut plugin: UnknownLog = host.load_for(None, RULES).unwrap();
    for _ in 0..3 {
        let _ = plugin.rdmsr(unknown(0x606));
        let _ = plugin.wrmsr(on(0x606, 1, Reason::Unknown), 0x10);
        let _ = plugin.wrmsr(unknown(0x610), 5);
        let _ = plugin.rdmsr(unknown(0x10));
        let _ = plugin.wrmsr(invalid(0x2ff), 2);
    }
    assert_eq!(
        lines(&host),
        [
            "read of 0x606 (MSR_RAPL_POWER_UNIT) (reason unknown, vCPU 0): 0x0, by rules[0]",
            "write of 0x10 to 0x606 (MSR_RAPL_POWER_UNIT) (reason unknown, vCPU 1): fault, by rules[0]",
            "write of 0x5 to 0x610 (MSR_PKG_POWER_LIMIT) (reason unknown, vCPU 0): stored, by rules[1]",
            "read of 0x10 (IA32_TIME_STAMP_COUNTER) (reason unknown, vCPU 0): pass, no rule is for it",
            "write of 0x2 to 0x2ff (IA32_MTRR_DEF_TYPE) (reason invalid, vCPU 0): dropped, by rules[3]",
        ]
    );
}

#[test]
fn a_walk_over_all_msrs_is_logged_slowly_and_not_for_ever() {
    let host = Host::fresh();
    let mut plugin: UnknownLog = host.load_for(None, "{}").unwrap();
    for msr in 0..1000 {
        let _ = plugin.rdmsr(unknown(msr));
    }
    assert_eq!(lines(&host).len(), 16);
    // A line that was held back is logged at the next access.
    for second in 1..=100 {
        host.set_monotonic_ns(second * 1_000_000_000);
        for msr in 0..1000 {
            let _ = plugin.rdmsr(unknown(msr));
            let _ = plugin.wrmsr(unknown(msr), 0);
        }
    }
    assert_eq!(lines(&host).len(), 256 + 1);
}

#[test]
fn a_clock_that_goes_back_does_not_loosen_the_log() {
    let host = Host::fresh();
    host.set_monotonic_ns(u64::MAX);
    let mut plugin: UnknownLog = host.load_for(None, "{}").unwrap();
    for msr in 0..100 {
        host.set_monotonic_ns(u64::MAX - u64::from(msr));
        let _ = plugin.rdmsr(unknown(msr));
    }
    host.set_monotonic_ns(0);
    for msr in 0..100 {
        let _ = plugin.rdmsr(unknown(msr));
    }
    assert!(lines(&host).len() <= 100, "{}", lines(&host).len());
}

#[test]
fn a_walk_of_writes_ends_in_faults_and_leaves_earlier_values_alone() {
    let host = Host::fresh();
    let rule = r#"{"range": "0-0xffffffff", "read": "stored", "write": "store"}"#;
    let mut plugin: UnknownLog = host.load_for(None, &format!(r#"{{"rules": [{rule}]}}"#)).unwrap();
    let taken = (0..5000).filter(|&msr| plugin.wrmsr(unknown(msr), 1).is_ok()).count();
    assert_eq!(taken, stored::MOST);
    assert_eq!(plugin.wrmsr(unknown(4999), 1), Err(Otherwise::Fault));
    assert_eq!(plugin.rdmsr(unknown(4999)), Ok(0));
    assert_eq!(plugin.rdmsr(unknown(0)), Ok(1));
    assert_eq!(plugin.wrmsr(unknown(0), u64::MAX), Ok(()));
    assert_eq!(plugin.rdmsr(unknown(0)), Ok(u64::MAX));
    let said = lines(&host).into_iter().filter(|line| line.contains("places for values")).count();
    assert_eq!(said, 1);
}

#[test]
fn a_reset_brings_back_the_values_at_the_start() {
    let mut plugin = loaded(RULES);
    plugin.wrmsr(unknown(0x610), 7).unwrap();
    plugin.wrmsr(unknown(0x620), 7).unwrap();
    plugin.reset();
    assert_eq!(plugin.rdmsr(unknown(0x610)), Ok(u64::MAX));
    assert_eq!(plugin.rdmsr(unknown(0x620)), Ok(0));
}

/// The longest configuration, with the longest rules.
fn longest_rules() -> String {
    let rule = |place: usize| {
        format!(
            r#"{{"range": "{:#x}-{:#x}", "reason": "unknown", "read": "stored", "write": "ignore",
                "value": "0xffffffffffffffff", "shared": true}}"#,
            0xf000_0000 + 2 * place,
            0xf000_0001 + 2 * place
        )
    };
    (0..config::MOST_RULES).map(rule).collect::<Vec<_>>().join(",")
}
