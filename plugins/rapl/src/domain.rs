//! The domains of a package, and the register of each MSR (Intel SDM volume 3,
//! section 15.10.2, and volume 4, tables 2-20 to 2-23, Sandy Bridge).

use core::fmt;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::MsrIndex;

/// `MSR_RAPL_POWER_UNIT`
pub(crate) const POWER_UNIT: MsrIndex = MsrIndex(0x606);

/// `MSR_AMD_RAPL_POWER_UNIT`, of the same layout (AMD's processor programming reference of
/// family 17h; Linux, `msr-index.h`)
pub(crate) const AMD_POWER_UNIT: MsrIndex = MsrIndex(0xc001_0299);
/// `MSR_AMD_CORE_ENERGY_STATUS`: each core has one.
pub(crate) const AMD_CORE_ENERGY: MsrIndex = MsrIndex(0xc001_029a);
/// `MSR_AMD_PKG_ENERGY_STATUS`
pub(crate) const AMD_PACKAGE_ENERGY: MsrIndex = MsrIndex(0xc001_029b);

/// Whether an MSR is one of AMD's.
pub(crate) fn is_amds(msr: MsrIndex) -> bool {
    (AMD_POWER_UNIT..=AMD_PACKAGE_ENERGY).contains(&msr)
}

/// A part of the package with its own energy counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Domain {
    /// The whole processor.
    Package,
    /// Power plane 0: the cores.
    Core,
    /// Power plane 1: on clients, the graphics.
    Uncore,
    /// The memory.
    Dram,
}

impl Domain {
    pub(crate) const ALL: [Domain; 4] =
        [Domain::Package, Domain::Core, Domain::Uncore, Domain::Dram];

    /// As a configuration writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Domain::Package => "package",
            Domain::Core => "core",
            Domain::Uncore => "uncore",
            Domain::Dram => "dram",
        }
    }

    /// Intel's MSR of its energy counter, in the guest and in the host.
    pub(crate) fn energy_status(self) -> MsrIndex {
        MsrIndex(match self {
            Domain::Package => 0x611,
            Domain::Core => 0x639,
            Domain::Uncore => 0x641,
            Domain::Dram => 0x619,
        })
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of register that an MSR of a domain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    /// `…_POWER_LIMIT`
    PowerLimit,
    /// `…_ENERGY_STATUS`
    EnergyStatus,
    /// `…_PERF_STATUS`: how long the limits have throttled.
    PerfStatus,
    /// `…_POWER_INFO`
    PowerInfo,
    /// `…_POLICY`
    Policy,
}

/// The register of an MSR; `None` for one that the manifest does not name, and
/// for those that belong to no domain: the units, and what each of AMD's cores has.
pub(crate) fn register(msr: MsrIndex) -> Option<(Domain, Register)> {
    Some(match msr.0 {
        0x610 => (Domain::Package, Register::PowerLimit),
        0x611 => (Domain::Package, Register::EnergyStatus),
        0x613 => (Domain::Package, Register::PerfStatus),
        0x614 => (Domain::Package, Register::PowerInfo),
        0x618 => (Domain::Dram, Register::PowerLimit),
        0x619 => (Domain::Dram, Register::EnergyStatus),
        0x61b => (Domain::Dram, Register::PerfStatus),
        0x61c => (Domain::Dram, Register::PowerInfo),
        0x638 => (Domain::Core, Register::PowerLimit),
        0x639 => (Domain::Core, Register::EnergyStatus),
        0x63a => (Domain::Core, Register::Policy),
        0x63b => (Domain::Core, Register::PerfStatus),
        0x640 => (Domain::Uncore, Register::PowerLimit),
        0x641 => (Domain::Uncore, Register::EnergyStatus),
        0x642 => (Domain::Uncore, Register::Policy),
        0xc001_029b => (Domain::Package, Register::EnergyStatus),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_domain_has_its_counter_where_the_host_has_it() {
        for domain in Domain::ALL {
            let found = register(domain.energy_status());
            assert_eq!(found, Some((domain, Register::EnergyStatus)));
        }
    }
}
