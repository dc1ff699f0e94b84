//! AMD's registers, as guests and operators see them.

use wasmsr_sdk::native::access;
use wasmsr_sdk::{Access, MsrIndex, Otherwise, Plugin};

use super::{MODEL, PACKAGE, SECOND, UNIT, host, joules, load, ran};
use crate::domain::{AMD_CORE_ENERGY, AMD_PACKAGE_ENERGY, AMD_POWER_UNIT};

const AMD_UNIT: Access = access(AMD_POWER_UNIT.0);
const AMD_CORE: Access = access(AMD_CORE_ENERGY.0);
const AMD_PACKAGE: Access = access(AMD_PACKAGE_ENERGY.0);

/// As Linux's drivers read them: `drivers/powercap/intel_rapl_msr.c`, `rapl_msr_priv_amd`,
/// and `arch/x86/events/rapl.c`.
#[test]
fn an_amd_guest_finds_units_and_energy() {
    let host = host();
    let mut rapl = load(&host, &MODEL.replace("\"dram\"", "\"core\""));
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    assert_eq!(rapl.rdmsr(AMD_UNIT), Ok(0xa_1003));
    assert_eq!(rapl.rdmsr(AMD_PACKAGE), Ok(joules(15)));
    // 2 W of the cores, of which there are two.
    assert_eq!(rapl.rdmsr(AMD_CORE), Ok(joules(1)));
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(15)), "both vendors' are there");
    for msr in [AMD_UNIT, AMD_CORE, AMD_PACKAGE] {
        assert_eq!(rapl.wrmsr(msr, 0), Err(Otherwise::Fault));
    }
}

#[test]
fn cores_that_are_not_counted_read_as_0() {
    let host = host();
    let mut rapl = load(&host, MODEL);
    host.set_monotonic_ns(SECOND);
    assert_eq!(rapl.rdmsr(AMD_CORE), Ok(0));
}

#[test]
fn a_vendor_leaves_the_other_ones_registers_out() {
    let host = host();
    for (vendor, there, gone) in [
        ("intel", [UNIT, PACKAGE], [AMD_UNIT, AMD_PACKAGE]),
        ("amd", [AMD_UNIT, AMD_PACKAGE], [UNIT, PACKAGE]),
    ] {
        let config = MODEL.replacen('{', &alloc::format!("{{\"vendor\": \"{vendor}\", "), 1);
        let mut rapl = load(&host, &config);
        assert!(there.iter().all(|msr| rapl.rdmsr(*msr).is_ok()), "{vendor}");
        assert!(gone.iter().all(|msr| rapl.rdmsr(*msr) == Err(Otherwise::Fault)), "{vendor}");
        let limit = rapl.wrmsr(access(0x610), 0);
        assert_eq!(limit.is_ok(), vendor == "intel");
    }
}

#[test]
fn a_host_of_amds_is_read_by_its_own_msrs() {
    let host = host();
    host.set_host_msr(AMD_POWER_UNIT, 0xa_1003);
    host.set_host_msr(AMD_PACKAGE_ENERGY, 0xffff_0000);
    let mut rapl = load(&host, r#"{"source": "host-msr"}"#);
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    // One of four CPUs, over a wrap: 8 J.
    host.set_host_msr(AMD_PACKAGE_ENERGY, joules(7));
    assert_eq!(rapl.rdmsr(AMD_PACKAGE), Ok(joules(2)));
    assert_eq!(rapl.rdmsr(access(0x639)), Err(Otherwise::Fault));
    assert_eq!(rapl.rdmsr(access(MsrIndex(0xc001_029c).0)), Err(Otherwise::Fault));
}
