//! The plugin as guests and operators see it.

extern crate std;

mod amd;
mod config;
mod host;
mod model;
mod state;

use std::string::String;

use wasmsr_sdk::native::{Host, access};
use wasmsr_sdk::vcpus::Times;
use wasmsr_sdk::{Access, MsrIndex, Otherwise, Plugin, VcpuId};

use crate::Rapl;

const UNIT: Access = access(0x606);
const PACKAGE_LIMIT: Access = access(0x610);
const PACKAGE: Access = access(0x611);
const PACKAGE_INFO: Access = access(0x614);
const DRAM: Access = access(0x619);
const CORE_LIMIT: Access = access(0x638);
const CORE: Access = access(0x639);
const CORE_POLICY: Access = access(0x63a);
const UNCORE: Access = access(0x641);

const SECOND: u64 = 1_000_000_000;

/// A package and a memory, in units of 2⁻¹⁶ J.
const MODEL: &str = r#"{"model": {
    "package": {"idle-mw": 10000, "vcpu-mw": 5000},
    "dram": {"idle-mw": 2000, "vcpu-mw": 0}
}}"#;

/// A VM of two vCPUs on a host of four CPUs.
fn host() -> Host {
    let host = Host::fresh();
    host.set_vcpus(2);
    host.set_host_cpus(4);
    host
}

fn load(host: &Host, config: &str) -> Rapl {
    host.load_for(None, config).unwrap()
}

fn ran(host: &Host, vcpu: u32, ran_ns: u64) {
    host.set_vcpu_times(VcpuId(vcpu), Times { ran_ns, waited_ns: 0 });
}

/// Joules in units of 2⁻¹⁶ J.
fn joules(count: u64) -> u64 {
    count << 16
}

#[test]
fn registers_of_domains_that_are_there_are_there() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    for (index, value) in
        [(0x606, 0xa_1003), (0x613, 0), (0x614, 800), (0x618, 0), (0x61b, 0), (0x61c, 0)]
    {
        assert_eq!(rapl.rdmsr(access(index)), Ok(value), "{index:#x}");
    }
    // 100 W over 28 s, 125 W over 2.4 ms.
    assert_eq!(rapl.rdmsr(PACKAGE_LIMIT), Ok(0x0042_83e8_00dd_8320));
    for index in (0x638..=0x63b).chain(0x640..=0x642) {
        assert_eq!(rapl.rdmsr(access(index)), Err(Otherwise::Fault), "{index:#x}");
        assert_eq!(rapl.wrmsr(access(index), 0), Err(Otherwise::Fault), "{index:#x}");
    }
}

#[test]
fn what_is_read_only_takes_no_write() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    for index in [0x606, 0x611, 0x613, 0x614, 0x619, 0x61b, 0x61c] {
        let before = rapl.rdmsr(access(index));
        for value in [0, 1, before.unwrap(), u64::MAX] {
            assert_eq!(rapl.wrmsr(access(index), value), Err(Otherwise::Fault), "{index:#x}");
        }
        assert_eq!(rapl.rdmsr(access(index)), before, "{index:#x}");
    }
}

#[test]
fn an_msr_that_the_manifest_does_not_name_faults() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    for index in [0, 0x607, 0x60f, 0x612, 0x615, 0x61a, 0x637, 0x63c, 0x643, u32::MAX] {
        assert_eq!(rapl.rdmsr(access(index)), Err(Otherwise::Fault), "{index:#x}");
        assert_eq!(rapl.wrmsr(access(index), 0), Err(Otherwise::Fault), "{index:#x}");
    }
}

#[test]
fn the_manifest_names_every_register() {
    let ranges: std::vec::Vec<_> = include_str!("../../plugin.toml")
        .lines()
        .filter_map(|line| line.strip_prefix("range = \"")?.split('"').next())
        .map(|text| {
            let number = |text: &str| u32::from_str_radix(&text[2..], 16).unwrap();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            number(first)..=number(last)
        })
        .collect();
    for index in (0x600..0x680).chain(0xc001_0290..0xc001_02a0) {
        let named = ranges.iter().any(|range| range.contains(&index));
        let msr = MsrIndex(index);
        let is_one = msr == crate::POWER_UNIT
            || crate::domain::is_amds(msr)
            || crate::domain::register(msr).is_some();
        assert_eq!(named, is_one, "{index:#x}");
    }
}

#[test]
fn a_lock_outlasts_everything_but_a_reset() {
    let host = host();
    let config = MODEL.replace("\"dram\"", "\"core\"");
    let mut rapl = load(&host, &config);
    assert_eq!(rapl.wrmsr(CORE_POLICY, 0x1f), Ok(()));
    assert_eq!(rapl.wrmsr(CORE_POLICY, 0x20), Err(Otherwise::Fault));
    assert_eq!(rapl.wrmsr(CORE_LIMIT, 1 << 31 | 0x7fff), Ok(()));
    for (msr, value) in [(CORE_LIMIT, 0), (CORE_LIMIT, u64::MAX), (CORE_POLICY, 0)] {
        assert_eq!(rapl.wrmsr(msr, value), Ok(()), "ignored");
    }
    assert_eq!(rapl.rdmsr(CORE_LIMIT), Ok(1 << 31 | 0x7fff));
    assert_eq!(rapl.rdmsr(CORE_POLICY), Ok(0x1f));
    wasmsr_sdk::Reset::reset(&mut rapl);
    assert_eq!((rapl.rdmsr(CORE_LIMIT), rapl.rdmsr(CORE_POLICY)), (Ok(0), Ok(0)));
}

fn error(host: &Host, config: &str) -> String {
    std::format!("{}", host.load_for::<Rapl>(None, config).unwrap_err())
}
