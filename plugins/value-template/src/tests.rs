extern crate std;

mod model;

use alloc::string::ToString;

use wasmsr_sdk::log::Level;
use wasmsr_sdk::native::{Host, access};
use wasmsr_sdk::{Access, MsrIndex};

use super::*;

const ARCH_CAPABILITIES: Access = access(0x10a);
const MISC_ENABLE: Access = access(0x1a0);
const CPUID_FAULTING: Access = access(0x140);

/// Sticky bits, an initial value and a hidden MSR.
const CONFIG: &str = r#"{"msrs": [
    {"range": "0x10a", "value": 43, "access": "r"},
    {"range": "0x1a0", "value": "0x1800", "mask": "0x41800", "write": "kernel", "read-only": "0x1800"},
    {"range": "0x140", "value": 1, "mask": 1, "access": "none", "apply": "initial"},
    {"range": "0x606-0x611", "read": "fault", "write": "ignore"}
]}"#;

fn host() -> Host {
    let host = Host::fresh();
    host.set_kvm_msr(MISC_ENABLE.index, 0x4_0001);
    host.set_kvm_msr(CPUID_FAULTING.index, 2);
    host
}

fn loaded(host: &Host) -> ValueTemplate {
    host.load(CONFIG).unwrap()
}

#[test]
fn a_whole_value_needs_no_kvm() {
    let mut plugin = loaded(&host());
    assert_eq!(plugin.rdmsr(ARCH_CAPABILITIES), Ok(43));
    assert_eq!(plugin.wrmsr(ARCH_CAPABILITIES, 0), Err(Otherwise::Kernel));
}

#[test]
fn sticky_bits_lie_over_what_kvm_has_at_the_moment() {
    let host = host();
    let mut plugin = loaded(&host);
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(0x1801));
    host.set_kvm_msr(MISC_ENABLE.index, u64::MAX);
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(!0x4_0000));
}

#[test]
fn a_write_reaches_kvm_without_the_templates_bits() {
    let host = host();
    let mut plugin = loaded(&host);
    assert_eq!(plugin.wrmsr(MISC_ENABLE, 0x1800), Ok(()));
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(0x4_0000), "its bit 18 is its own");
    assert_eq!(plugin.wrmsr(MISC_ENABLE, u64::MAX), Ok(()), "bit 18 is ignored");
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(!0x1800));
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Ok(!0x4_0000));
}

#[test]
fn a_write_that_would_change_a_read_only_bit_changes_nothing() {
    let host = host();
    let mut plugin = loaded(&host);
    for value in [0, 0x800, 0x1000, !0x800] {
        assert_eq!(plugin.wrmsr(MISC_ENABLE, value), Err(Otherwise::Fault), "{value:#x}");
    }
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(0x4_0001));
}

#[test]
fn kvm_gets_a_write_as_the_guests_own() {
    let host = host();
    let mut plugin = loaded(&host);
    host.set_guest_rule(MISC_ENABLE.index, false, 0xff);
    assert_eq!(plugin.wrmsr(MISC_ENABLE, 0x1802), Ok(()), "the template's bits stay KVM's own");
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(0x4_0002));
    assert_eq!(plugin.wrmsr(MISC_ENABLE, 0x1902), Err(Otherwise::Fault), "KVM refuses a guest");
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(0x4_0002));
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Err(Otherwise::Fault), "and its reads");
}

#[test]
fn a_hidden_msr_is_not_asked_of_kvm() {
    let host = host();
    let mut plugin = loaded(&host);
    host.set_kvm_msr(MsrIndex(0x606), 7);
    assert_eq!(plugin.rdmsr(access(0x606)), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x611), u64::MAX), Ok(()));
    assert_eq!(host.kvm_msr(MsrIndex(0x606)), Some(7));
}

#[test]
fn an_initial_value_is_kvms_from_boot_on() {
    let host = host();
    let mut plugin = loaded(&host);
    assert_eq!(host.kvm_msr(CPUID_FAULTING.index), Some(3));
    assert_eq!(plugin.rdmsr(CPUID_FAULTING), Err(Otherwise::Kernel));
    assert_eq!(plugin.wrmsr(CPUID_FAULTING, 0), Err(Otherwise::Kernel));
}

#[test]
fn unlisted_msrs_are_passed_on() {
    let mut plugin = loaded(&host());
    for index in [0, 0x109, 0x10b, 0x605, 0x612, u32::MAX] {
        assert_eq!(plugin.rdmsr(access(index)), Err(Otherwise::Pass), "{index:#x}");
        assert_eq!(plugin.wrmsr(access(index), 0), Err(Otherwise::Pass), "{index:#x}");
    }
}

#[test]
fn a_kvm_that_has_lost_an_msr_makes_faults() {
    let mut plugin = loaded(&host());
    let host = Host::fresh();
    assert_eq!(plugin.rdmsr(MISC_ENABLE), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(MISC_ENABLE, 0x1800), Err(Otherwise::Fault));
    plugin.reset();
    let (level, line) = host.logged().pop().unwrap();
    assert!(level == Level::Error && line.contains("0x140"), "{line}");
}

#[test]
fn a_reset_applies_initial_values_anew() {
    let host = host();
    let mut plugin = loaded(&host);
    host.set_kvm_msr(CPUID_FAULTING.index, 4);
    host.set_kvm_msr(MISC_ENABLE.index, 4);
    plugin.reset();
    assert_eq!(host.kvm_msr(CPUID_FAULTING.index), Some(5));
    assert_eq!(host.kvm_msr(MISC_ENABLE.index), Some(4), "its bits are sticky, not initial");
}

#[test]
fn a_newer_instance_leaves_what_the_guest_made_of_initial_values() {
    let host = host();
    let old = loaded(&host);
    host.set_kvm_msr(CPUID_FAULTING.index, 4);
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    assert_eq!(host.kvm_msr(CPUID_FAULTING.index), Some(4));

    // A template without the MSR does not refuse it.
    let config = r#"{"msrs": [{"range": "0x10a", "value": 1}]}"#;
    host.load::<ValueTemplate>(config).unwrap().restore(&saved).unwrap();
    assert_eq!(host.kvm_msr(CPUID_FAULTING.index), Some(4));
}

#[test]
fn a_new_initial_value_applies_to_the_bits_that_differ() {
    let config = |value: u64, mask: u64| {
        std::format!(
            r#"{{"msrs": [{{"range": "0x140", "value": {value}, "mask": {mask}, "access": "none",
            "apply": "initial"}}]}}"#
        )
    };
    // 4 bits at the start; the guest has flipped bits 0, 2 and 4.
    let cases = [
        // The same: the guest's bits stay.
        ((0b0011, 0b1111), 0b1_0110),
        // Bits 1 and 2 are others now.
        ((0b0101, 0b1111), 0b1_0100),
        // Bit 4 is new, bits 0 and 1 are no longer the template's.
        ((0b0_0000, 0b1_1100), 0b0_0110),
        ((0b1_0000, 0b1_1100), 0b1_0110),
    ];
    for ((value, mask), expected) in cases {
        let host = host();
        host.set_kvm_msr(CPUID_FAULTING.index, 0);
        let old: ValueTemplate = host.load(&config(0b0011, 0b1111)).unwrap();
        host.set_kvm_msr(CPUID_FAULTING.index, 0b1_0110);
        let saved = host.save(&old, "0.1.0").unwrap();
        let mut new: ValueTemplate = host.load(&config(value, mask)).unwrap();
        // A swap in a running VM withholds what the new instance writes at its start.
        for at_the_swap in [host.kvm_msr(CPUID_FAULTING.index).unwrap(), 0b1_0110] {
            host.set_kvm_msr(CPUID_FAULTING.index, at_the_swap);
            new.restore(&saved).unwrap();
            let held = host.kvm_msr(CPUID_FAULTING.index);
            assert_eq!(held, Some(expected), "{value:#b} {mask:#b} {at_the_swap:#b}");
        }
    }
}

#[test]
fn the_largest_state_fits() {
    let host = Host::fresh();
    for msr in 0..512 {
        host.set_kvm_msr(MsrIndex(0xffff_fe00 + msr), u64::MAX);
    }
    let config = |last: u32| {
        std::format!(
            r#"{{"msrs": [{{"range": "0xfffffe00-{last:#x}", "access": "none", "apply": "initial",
            "value": "0xfffffffffffffffe", "mask": "0xfffffffffffffffe"}}]}}"#
        )
    };
    let largest: ValueTemplate = host.load(&config(0xffff_ffff)).unwrap();
    let json = serde_json::to_string(&largest.save()).unwrap();
    assert!(json.len() < 64 << 10, "{} bytes", json.len());
    host.set_kvm_msr(MsrIndex(0xffff_fdff), 0);
    let config = config(0xffff_ffff).replace("0xfffffe00", "0xfffffdff");
    let error = host.load::<ValueTemplate>(&config).err().unwrap().to_string();
    assert!(error.contains("more than 512"), "{error}");
}

#[test]
fn a_state_that_no_guest_can_have_made_is_refused() {
    let host = host();
    let old = loaded(&host);
    host.set_kvm_msr(CPUID_FAULTING.index, 4);
    let saved = host.save(&old, "0.1.0").unwrap();
    let locked = r#"{"msrs": [{"range": "0x140", "value": 1, "mask": 1, "access": "w",
        "apply": "initial"}]}"#;
    let forwarded = locked.replace(r#""access""#, r#""write": "kernel", "read-only": 1, "access""#);
    for config in [locked, &forwarded] {
        host.set_kvm_msr(CPUID_FAULTING.index, 0);
        let mut new: ValueTemplate = host.load(config).unwrap();
        let error = new.restore(&saved).unwrap_err().to_string();
        assert!(error.contains("0x140"), "{error}");
        assert_eq!(host.kvm_msr(CPUID_FAULTING.index), Some(1), "{config}");
    }
}
