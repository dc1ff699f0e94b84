//! The plugin as guests and operators see it.

extern crate std;

use std::format;

use proptest::prelude::*;
use wasmsr_sdk::VcpuId;
use wasmsr_sdk::native::{Host, access};

use super::*;

const COUNT: Access = access(0x35);
const PLATFORM: Access = access(0x17);
const MICROCODE: Access = access(0x8b);
const INFO: Access = access(0xce);
const ENABLE: Access = access(0x1a0);
const PACKAGE_CST: Access = access(0xe2);

/// Four vCPUs at 2.5942 GHz, and what KVM starts with.
fn host() -> Host {
    let host = Host::fresh();
    host.set_vcpus(4);
    host.set_tsc_khz(2_594_200);
    host.set_kvm_msr(PLATFORM_INFO, CPUID_FAULTING);
    host.set_kvm_msr(MISC_ENABLE, 0x1801);
    host
}

#[track_caller]
fn load(host: &Host, config: &str) -> Topology {
    host.load(config).unwrap()
}

#[test]
fn without_a_configuration_it_says_what_the_vm_is() {
    let host = host();
    let mut topology = load(&host, "{}");
    assert_eq!(topology.rdmsr(COUNT), Ok(0x0004_0004));
    assert_eq!(topology.rdmsr(PLATFORM), Ok(0));
    assert_eq!(topology.rdmsr(MICROCODE), Err(Otherwise::Kernel));
    assert_eq!(topology.rdmsr(INFO), Ok(0x0800_8000_1a00));
    assert_eq!(topology.rdmsr(ENABLE), Ok(0x1801));
}

#[test]
fn a_configuration_says_more() {
    let host = host();
    let mut topology = load(
        &host,
        r#"{"threads-per-core": 2, "max-ratio": 21, "min-ratio": 8, "platform-id": 7,
            "microcode": "0x2006e05", "misc-enable": {"set": [16], "clear": [0]}}"#,
    );
    assert!(host.logged()[0].1.contains("threads-per-core = 2"));
    assert_eq!(topology.rdmsr(COUNT), Ok(0x0002_0004));
    assert_eq!(topology.rdmsr(PLATFORM), Ok(0x001c_0000_0000_0000));
    assert_eq!(topology.rdmsr(MICROCODE), Ok(0x0200_6e05_0000_0000));
    assert_eq!(topology.rdmsr(INFO), Ok(0x0800_8000_1500));
    assert_eq!(topology.rdmsr(ENABLE), Ok(0x1_1800));
}

#[test]
fn every_vcpu_says_the_same() {
    let host = host();
    let say = |vcpu| {
        let mut topology: Topology = host.load_for(Some(VcpuId(vcpu)), "{}").unwrap();
        [COUNT, PLATFORM, INFO, ENABLE].map(|msr| topology.rdmsr(msr))
    };
    assert_eq!(say(0), say(3));
}

#[test]
fn cpuid_faulting_is_there_where_kvm_has_it() {
    let host = host();
    let mut topology = load(&host, "{}");
    host.set_kvm_msr(PLATFORM_INFO, !CPUID_FAULTING);
    assert_eq!(topology.rdmsr(INFO), Ok(0x0800_0000_1a00));
    let host = Host::fresh();
    host.set_tsc_khz(500_000);
    assert_eq!(load(&host, "{}").rdmsr(INFO), Ok(0x0500_0000_0500), "no lower than it is");
}

#[test]
fn the_revision_is_there_after_a_write() {
    let host = host();
    let mut topology = load(&host, r#"{"microcode": 1}"#);
    for value in [0, 1, u64::MAX] {
        assert_eq!(topology.wrmsr(MICROCODE, value), Ok(()));
        assert_eq!(topology.rdmsr(MICROCODE), Ok(1 << 32));
    }
    // A write must not reach KVM, which would use the 0 as its revision.
    let mut topology = load(&host, "{}");
    assert_eq!(topology.wrmsr(MICROCODE, 0), Ok(()));
}

#[test]
fn what_is_read_only_takes_no_write() {
    let host = host();
    let mut topology = load(&host, "{}");
    for msr in [COUNT, PLATFORM, INFO] {
        let before = topology.rdmsr(msr);
        for value in [0, before.unwrap(), u64::MAX] {
            assert_eq!(topology.wrmsr(msr, value), Err(Otherwise::Fault), "{msr:?}");
        }
        assert_eq!(topology.rdmsr(msr), before);
    }
    assert_eq!(host.kvm_msr(PLATFORM_INFO), Some(CPUID_FAULTING));
}

#[test]
fn an_msr_that_the_manifest_does_not_name_faults() {
    let host = host();
    let mut topology = load(&host, "{}");
    for index in [0, 0x16, 0x18, 0x34, 0x36, 0x8a, 0xcd, 0xe1, 0xe3, 0x1a1, u32::MAX] {
        assert_eq!(topology.rdmsr(access(index)), Err(Otherwise::Fault), "{index:#x}");
        assert_eq!(topology.wrmsr(access(index), 0), Err(Otherwise::Fault), "{index:#x}");
    }
}

/// turbostat reads it on every processor with an Intel name, and ends without it; kernels
/// change demotions in it.
#[test]
fn the_limit_of_package_states_is_kept_and_limits_nothing() {
    let host = host();
    let mut topology = load(&host, "{}");
    assert_eq!(topology.rdmsr(PACKAGE_CST), Ok(0));
    assert_eq!(topology.wrmsr(PACKAGE_CST, !(1 << 15)), Ok(()));
    assert_eq!(topology.rdmsr(PACKAGE_CST), Ok(0x7f00_040f));
    let saved = host.save(&topology, "0.1.0").unwrap();
    topology.reset();
    assert_eq!(topology.rdmsr(PACKAGE_CST), Ok(0));
    topology.restore(&saved).unwrap();
    assert_eq!(topology.rdmsr(PACKAGE_CST), Ok(0x7f00_040f));
    let mut locked = load(&host, r#"{"package-cst": "0x8008"}"#);
    assert_eq!(locked.wrmsr(PACKAGE_CST, 0x8008), Err(Otherwise::Fault));
    assert_eq!(locked.rdmsr(PACKAGE_CST), Ok(0x8008));
    assert!(locked.restore(&saved).is_err());
    // What no guest has changed follows the configuration.
    let saved = host.save(&locked, "0.1.0").unwrap();
    for (config, value) in [(r#"{"package-cst": "0x8008"}"#, 0x8008), ("{}", 0)] {
        let mut new = load(&host, config);
        new.restore(&saved).unwrap();
        assert_eq!(new.rdmsr(PACKAGE_CST), Ok(value));
    }
}

#[track_caller]
fn check_refused(config: &str, parts: &[&str]) {
    let host = host();
    let error = format!("{}", host.load::<Topology>(config).unwrap_err());
    assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
}

#[test]
fn a_wrong_configuration_is_refused_by_key() {
    check_refused(r#"{"threads-per-core": 3}"#, &["`threads-per-core`", "4 vCPUs", "3 threads"]);
    for number in ["8", "0", "-1", "4294967296"] {
        let config = std::format!(r#"{{"threads-per-core": {number}}}"#);
        check_refused(&config, &["`threads-per-core`", number, "is not from 1 to 4"]);
    }
    for number in ["0", "256", "-1"] {
        let config = std::format!(r#"{{"max-ratio": {number}}}"#);
        check_refused(&config, &["`max-ratio`", number, "is not from 1 to 255"]);
    }
    for number in ["0", "27", "-8"] {
        let config = std::format!(r#"{{"min-ratio": {number}}}"#);
        check_refused(&config, &["`min-ratio`", number, "is not from 1 to 26"]);
    }
    for number in ["8", "-1", "256"] {
        let config = std::format!(r#"{{"platform-id": {number}}}"#);
        check_refused(&config, &["`platform-id`", number, "is not from 0 to 7"]);
    }
    check_refused(r#"{"package-cst": "0x10000"}"#, &["`package-cst`", "bit 16"]);
    check_refused(r#"{"microcode": "0x100000000"}"#, &["`microcode`", "32 bits"]);
    check_refused(r#"{"misc-enable": {"set": [1, 64]}}"#, &["`misc-enable.set[1]`", "64"]);
    check_refused(
        r#"{"misc-enable": {"set": [3, 16], "clear": [22, 16]}}"#,
        &["`misc-enable`", "bit 16", "`set` and `clear`"],
    );
    check_refused(r#"{"misc-enable": {"sets": []}}"#, &["`misc-enable.sets`"]);
    check_refused(r#"{"cores": 4}"#, &["`cores`"]);
}

#[test]
fn a_tsc_without_a_ratio_needs_one() {
    let host = host();
    for (khz, ratio) in
        [(50_000, Some(1)), (25_549_999, Some(255)), (49_999, None), (25_550_000, None)]
    {
        host.set_tsc_khz(khz);
        let loaded = host.load::<Topology>("{}").ok().map(|mut it| it.rdmsr(INFO).unwrap());
        assert_eq!(loaded.map(|info| info >> 8 & 0xff), ratio, "{khz} kHz");
        assert!(host.load::<Topology>(r#"{"max-ratio": 1}"#).is_ok());
    }
}

proptest! {
    /// Counts that a guest multiplies give the VM's number.
    #[test]
    fn cores_times_threads_are_the_vcpus(vcpus in 1..=255_u32, per_core in 0..9_u32) {
        let host = host();
        host.set_vcpus(vcpus);
        let loaded = host.load::<Topology>(&format!(r#"{{"threads-per-core": {per_core}}}"#));
        let divides = (1..=vcpus).any(|cores| cores * per_core == vcpus);
        prop_assert_eq!(loaded.is_ok(), divides);
        if let Ok(mut topology) = loaded {
            let count = topology.rdmsr(COUNT).unwrap();
            prop_assert_eq!(count & 0xffff, u64::from(vcpus));
            prop_assert_eq!((count >> 16) * u64::from(per_core), u64::from(vcpus));
        }
    }

    /// Whatever a guest writes, only IA32_MISC_ENABLE changes.
    #[test]
    fn writes_change_nothing_else(
        writes in prop::collection::vec((0..5_usize, any::<u64>()), 0..32),
    ) {
        const MSRS: [Access; 5] = [COUNT, PLATFORM, MICROCODE, INFO, ENABLE];
        let host = host();
        let mut topology = load(&host, r#"{"microcode": 7}"#);
        let before = MSRS.map(|msr| topology.rdmsr(msr));
        for (msr, value) in writes {
            let _ = topology.wrmsr(MSRS[msr], value);
        }
        prop_assert_eq!(&MSRS.map(|msr| topology.rdmsr(msr))[..4], &before[..4]);
        prop_assert_eq!(host.kvm_msr(PLATFORM_INFO), Some(CPUID_FAULTING));
    }
}
