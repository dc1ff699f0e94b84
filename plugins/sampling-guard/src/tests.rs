//! The whole plugin, on a host with a scripted clock.

extern crate std;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use wasmsr_sdk::log::Level;
use wasmsr_sdk::native::{Host, access};
use wasmsr_sdk::{Reason, VcpuId};

use super::*;

const SECOND: u64 = 1_000_000_000;
const SPEC_CTRL: Access = access(0x48);
const PRED_CMD: Access = access(0x49);

const CONFIG: &str = r#"{"log-interval": 5, "msrs": [
    {"range": "0x48", "name": "IA32_SPEC_CTRL", "fault-after": 3},
    {"range": "0x49", "name": "IA32_PRED_CMD", "fault-after": 2, "per": 1, "then": "pass"},
    "0x186-0x189"
]}"#;

fn lines(host: &Host) -> Vec<String> {
    host.logged().into_iter().map(|(_, line)| line).collect()
}

#[test]
fn writes_go_to_kvm_up_to_the_number_and_then_fault() {
    let mut plugin: SamplingGuard = Host::fresh().load_for(None, CONFIG).unwrap();
    for _ in 0..3 {
        assert_eq!(plugin.wrmsr(SPEC_CTRL, 1), Err(Otherwise::Kernel));
    }
    for _ in 0..3 {
        assert_eq!(plugin.wrmsr(SPEC_CTRL, 1), Err(Otherwise::Fault));
    }
    // Another MSR has its own count, and an MSR without a limit never faults.
    for _ in 0..1000 {
        assert_eq!(plugin.wrmsr(access(0x189), u64::MAX), Err(Otherwise::Kernel));
    }
}

#[test]
fn a_number_per_second_is_one_for_all_vcpus_and_comes_back() {
    let host = Host::fresh();
    let mut plugin: SamplingGuard = host.load_for(None, CONFIG).unwrap();
    let mut write = |vcpu| {
        let access = Access::new(MsrIndex(0x49), VcpuId(vcpu), Reason::Filter);
        plugin.wrmsr(access, 1)
    };
    for second in 1..100 {
        host.set_monotonic_ns(second * SECOND);
        assert_eq!([0, 1, 2].map(&mut write)[..2], [Err(Otherwise::Pass); 2]);
        assert_eq!(write(3), Err(Otherwise::Fault));
    }
}

#[test]
fn what_is_not_listed_is_passed_on() {
    let mut plugin: SamplingGuard = Host::fresh().load_for(None, CONFIG).unwrap();
    assert_eq!(plugin.wrmsr(access(0x18a), 1), Err(Otherwise::Pass));
    assert_eq!(plugin.wrmsr(access(u32::MAX), u64::MAX), Err(Otherwise::Pass));
}

#[test]
fn lines_have_rate_and_history() {
    let host = Host::fresh();
    let mut plugin: SamplingGuard = host.load_for(None, CONFIG).unwrap();
    host.set_monotonic_ns(SECOND);
    for value in [1, 0, 5] {
        let _ = plugin.wrmsr(PRED_CMD, value);
    }
    host.set_monotonic_ns(6 * SECOND);
    let _ = plugin.wrmsr(PRED_CMD, u64::MAX);
    let _ = plugin.wrmsr(access(0x186), 0);
    assert_eq!(
        host.logged(),
        [
            (Level::Info, "0x49 (IA32_PRED_CMD): vCPU 0 writes 0x1; 1 write, at most 1 in 1 s"),
            (
                Level::Warn,
                "0x49 (IA32_PRED_CMD): vCPU 0 writes 0x5: fault, fault-after = 2 in 1 s is used up; \
                 3 writes, 1 of them faulted, at most 3 in 1 s"
            ),
            (
                Level::Info,
                "0x49 (IA32_PRED_CMD): vCPU 0 writes 0xffffffffffffffff; 4 writes, 1 of them faulted, \
                 at most 3 in 1 s; before it 0x5 0x0 0x1"
            ),
            (Level::Info, "0x186: vCPU 0 writes 0x0; 1 write, at most 1 in 1 s"),
        ]
        .map(|(level, line)| (level, line.to_string()))
    );
}

#[test]
fn a_flood_is_two_lines_an_interval() {
    let host = Host::fresh();
    let mut plugin: SamplingGuard = host.load_for(None, CONFIG).unwrap();
    for millisecond in 0..20_000 {
        host.set_monotonic_ns(SECOND / 1000 * millisecond);
        let _ = plugin.wrmsr(PRED_CMD, millisecond);
        if millisecond % 100 == 0 {
            plugin.reset();
        }
    }
    assert_eq!(lines(&host).len(), 2 * 4);
    assert!(lines(&host).iter().all(|line| line.len() < 1024));
}

#[test]
fn the_report_is_a_table() {
    let mut plugin: SamplingGuard = Host::fresh().load_for(None, CONFIG).unwrap();
    assert_eq!(plugin.report(), "none of 6 guarded MSRs was written");
    for value in [1, 0, 1, 0] {
        let _ = plugin.wrmsr(SPEC_CTRL, value);
    }
    let _ = plugin.wrmsr(access(0x187), 0x0043_003c);
    assert_eq!(
        plugin.report(),
        "\
MSR                    writes  faults   at most  values, newest first
0x48 (IA32_SPEC_CTRL)       4       1  4 in 1 s  0x0 0x1 0x0 0x1
0x187                       1       0  1 in 1 s  0x43003c"
    );
}

#[test]
fn a_reset_begins_the_counts_anew() {
    let mut plugin: SamplingGuard = Host::fresh().load_for(None, CONFIG).unwrap();
    for _ in 0..4 {
        let _ = plugin.wrmsr(SPEC_CTRL, 1);
    }
    plugin.reset();
    assert_eq!(plugin.wrmsr(SPEC_CTRL, 1), Err(Otherwise::Kernel));
    assert!(
        plugin.report().contains("0x48 (IA32_SPEC_CTRL)       1       0"),
        "{}",
        plugin.report()
    );
}

/// The longest configuration.
const LONGEST: &str = r#"{"msrs": ["0xffffff00-0xffffff3f"], "history": 32, "fault-after": 0}"#;

/// A plugin with so many writes that its state grows no further.
fn worn(host: &Host) -> SamplingGuard {
    let mut plugin: SamplingGuard = host.load_for(None, LONGEST).unwrap();
    host.set_monotonic_ns(u64::MAX);
    for msr in 0xffff_ff00..=0xffff_ff3f {
        for _ in 0..40 {
            assert_eq!(plugin.wrmsr(access(msr), u64::MAX), Err(Otherwise::Fault));
        }
    }
    plugin
}

#[test]
fn the_longest_state_and_report_are_such_as_the_host_takes() {
    const HOST_TAKES: usize = 64 << 10;
    // Four counts of up to 64 bits have 18 digits more than here.
    let more = config::MOST_MSRS * 4 * 18;
    let host = Host::fresh();
    let plugin = worn(&host);
    let kept: Vec<_> = plugin.guarded.iter().map(|(&msr, of)| (msr, of.guard.keep())).collect();
    let state = serde_json::to_string(&kept).unwrap().len() + more;
    let report = plugin.report().len() + more;
    assert!(state.max(report) < HOST_TAKES, "{state}, {report}");
}

#[test]
fn a_newer_instance_takes_the_counts_over() {
    let host = Host::fresh();
    let old = worn(&host);
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new: SamplingGuard = host.load_for(None, LONGEST).unwrap();
    new.restore(&saved).unwrap();
    assert_eq!(new.report(), old.report());

    // A configuration with fewer MSRs, a shorter history and another limit.
    let config = r#"{"msrs": ["0xffffff00"], "history": 2, "fault-after": 41}"#;
    let mut new: SamplingGuard = host.load_for(None, config).unwrap();
    new.restore(&saved).unwrap();
    assert_eq!(new.wrmsr(access(0xffff_ff00), 0), Err(Otherwise::Kernel));
    assert_eq!(new.wrmsr(access(0xffff_ff00), 1), Err(Otherwise::Fault));
    assert!(new.report().contains("42      41  42 in 1 s  0x1 0x0"), "{}", new.report());
}

#[test]
fn a_state_that_no_writes_can_have_led_to_is_refused() {
    let host = Host::fresh();
    let mut plugin: SamplingGuard = host.load_for(None, CONFIG).unwrap();
    let sound = r#"[[72, {"writes": 5, "faults": 2, "window_s": 1, "window_ns": 0,
        "in_window": 2, "fastest": 3, "values": [1, 0]}]]"#;
    let restore = |plugin: &mut SamplingGuard, state: &str| {
        let state: serde_json::Value = serde_json::from_str(state).unwrap();
        plugin.restore(&host.forge(&state, "0.1.0").unwrap())
    };
    restore(&mut plugin, sound).unwrap();
    let before = plugin.report();
    for (part, other) in [
        (r#""writes": 5"#, r#""writes": 0"#),
        (r#""writes": 5"#, r#""writes": 1"#),
        (r#""writes": 5"#, r#""writes": -5"#),
        (r#""faults": 2"#, r#""faults": 6"#),
        (r#""in_window": 2"#, r#""in_window": 4"#),
        (r#""in_window": 2"#, r#""in_window": 0"#),
        (r#""fastest": 3"#, r#""fastest": 6"#),
        ("[1, 0]", "[1, 0, 1, 0, 1, 0]"),
        ("[1, 0]", "[-1]"),
        (r#""window_s": 1,"#, ""),
        (r#""window_s": 1"#, r#""window_s": 1, "more": 1"#),
        (sound, "{}"),
    ] {
        let state = sound.replace(part, other);
        assert_ne!(state, sound);
        let error = restore(&mut plugin, &state).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("state")), "{state}");
        assert_eq!(plugin.report(), before, "{state}");
    }
    assert_eq!(format!("{:?}", plugin.wrmsr(SPEC_CTRL, 0)), "Err(Fault)");
}
