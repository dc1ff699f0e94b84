//! What an Intel processor says about itself beside CPUID: the cores and threads
//! of its package, its ratios, its platform, its microcode, and which features
//! are enabled.
//!
//! Its state is `MSR_PKG_CST_CONFIG_CONTROL`; KVM stores what else a guest has written.
#![no_std]

extern crate alloc;

mod config;
mod misc_enable;
mod package_cst;
#[cfg(test)]
mod tests;

use serde::Serialize;
use wasmsr_sdk::{
    Access, Bits64, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, export, kvm,
};

use misc_enable::{Fixed, MISC_ENABLE};
use package_cst::{PACKAGE_CST, PackageCst};

/// `IA32_PLATFORM_ID` (Intel SDM volume 4, table 2-2)
const PLATFORM_ID: MsrIndex = MsrIndex(0x17);
/// `MSR_CORE_THREAD_COUNT` (Intel SDM volume 4, table 2-32 and those of later servers)
const CORE_THREAD_COUNT: MsrIndex = MsrIndex(0x35);
/// `IA32_BIOS_SIGN_ID` (Intel SDM volume 4, table 2-2)
const BIOS_SIGN_ID: MsrIndex = MsrIndex(0x8b);
/// `MSR_PLATFORM_INFO` (Intel SDM volume 4, table 2-20 and those of later processors)
const PLATFORM_INFO: MsrIndex = MsrIndex(0xce);

/// CPUID faulting, bit 31 of `MSR_PLATFORM_INFO`: whether bit 0 of
/// `MSR_MISC_FEATURES_ENABLES` (0x140) has an effect. KVM implements that MSR.
const CPUID_FAULTING: u64 = 1 << 31;

/// The processor of one vCPU; all vCPUs start with the same.
#[derive(Debug, Clone, Copy)]
struct Topology {
    core_thread_count: u64,
    /// Of `MSR_PLATFORM_INFO`.
    ratios: u64,
    platform_id: u64,
    /// `None` for KVM's own.
    sign_id: Option<u64>,
    misc_enable: Fixed,
    package_cst: PackageCst,
}

impl Plugin for Topology {
    fn new(setup: &Setup) -> Result<Self, Error> {
        config::read(setup)
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match access.index {
            PLATFORM_ID => Ok(self.platform_id),
            CORE_THREAD_COUNT => Ok(self.core_thread_count),
            BIOS_SIGN_ID => self.sign_id.ok_or(Otherwise::Kernel),
            PLATFORM_INFO => {
                let faulting = kvm::rdmsr(PLATFORM_INFO).unwrap_or(0) & CPUID_FAULTING;
                Ok(self.ratios | faulting)
            }
            MISC_ENABLE => self.misc_enable.read(),
            PACKAGE_CST => Ok(self.package_cst.read()),
            _ => Err(Otherwise::Fault),
        }
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        match access.index {
            // Software writes 0 and executes CPUID, which loads the revision
            // again (Intel SDM volume 3, section 10.11.7.1). No read comes
            // between. KVM would store the value as the VMM's.
            BIOS_SIGN_ID => Ok(()),
            MISC_ENABLE => self.misc_enable.write(value),
            PACKAGE_CST => self.package_cst.write(value),
            _ => Err(Otherwise::Fault),
        }
    }
}

impl Reset for Topology {
    fn reset(&mut self) {
        self.package_cst.reset();
    }
}

impl Persist for Topology {
    fn save(&self) -> impl Serialize {
        (Bits64(self.package_cst.read()), Bits64(self.package_cst.at_reset()))
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let (value, at_reset): (Bits64, Bits64) = saved.state()?;
        self.package_cst.take_over(value, at_reset).ok_or_else(|| {
            Error::new(format_args!(
                "{PACKAGE_CST} cannot hold its saved value, {value}; leave `package-cst` as it was"
            ))
        })
    }
}

export!(Topology: Reset, Persist);
