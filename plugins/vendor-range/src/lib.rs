//! A vendor's own range of MSRs, 0x56440000-0x564400ff, with the registers that
//! the configuration lists. Everything else in the range faults, as an MSR that
//! hardware does not have.
#![no_std]

extern crate alloc;

mod bank;
mod config;
mod register;

use alloc::vec::Vec;

use serde::Serialize;
use wasmsr_sdk::{
    Access, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, export,
};

use bank::Bank;
use register::{Kept, Register};

struct VendorRange {
    bank: Bank,
}

impl Plugin for VendorRange {
    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(VendorRange { bank: config::read(setup)? })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        self.bank.get_mut(access.index).map(|register| register.read()).ok_or(Otherwise::Fault)
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        self.bank
            .get_mut(access.index)
            .and_then(|register| register.write(value))
            .ok_or(Otherwise::Fault)
    }
}

impl Reset for VendorRange {
    fn reset(&mut self) {
        self.bank.registers_mut().for_each(Register::reset);
    }
}

impl Persist for VendorRange {
    fn save(&self) -> impl Serialize {
        self.bank.keep()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let kept: Vec<(MsrIndex, Kept)> = saved.state()?;
        for (msr, kept) in kept {
            let taken = self.bank.get_mut(msr).and_then(|register| register.take_over(kept));
            taken.ok_or_else(|| {
                Error::new(format_args!("register {msr} is no longer configured to hold its value"))
            })?;
        }
        Ok(())
    }
}

export!(VendorRange: Reset, Persist);

#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    const CONFIG: &str = r#"{"registers": [
        {"msr": "0x56440000", "name": "VD_ID", "value": "0x20261123"},
        {"msr": "0x56440001", "name": "VD_SCRATCH", "access": "read-write", "mask": "0xffff"},
        {"msr": "0x56440002", "name": "VD_FUSE", "access": "write-once"}
    ]}"#;

    const ID: Access = access(0x5644_0000);
    const SCRATCH: Access = access(0x5644_0001);
    const FUSE: Access = access(0x5644_0002);

    fn loaded() -> VendorRange {
        Host::fresh().load_for(None, CONFIG).unwrap()
    }

    #[test]
    fn each_register_has_its_own_rule() {
        let mut plugin = loaded();
        assert_eq!(plugin.rdmsr(ID), Ok(0x2026_1123));
        assert_eq!(plugin.wrmsr(ID, 0x2026_1123), Err(Otherwise::Fault));

        assert_eq!(plugin.wrmsr(SCRATCH, 0x1234), Ok(()));
        assert_eq!(plugin.wrmsr(SCRATCH, 0x1_0000), Err(Otherwise::Fault));
        assert_eq!(plugin.rdmsr(SCRATCH), Ok(0x1234));

        assert_eq!(plugin.wrmsr(FUSE, u64::MAX), Ok(()));
        assert_eq!(plugin.wrmsr(FUSE, u64::MAX), Err(Otherwise::Fault));
        assert_eq!(plugin.rdmsr(FUSE), Ok(u64::MAX));
    }

    #[test]
    fn what_is_not_listed_faults() {
        let mut plugin = loaded();
        for index in [0x5644_0003, 0x5644_00ff, 0x5644_0100, 0x5643_ffff, 0, u32::MAX] {
            assert_eq!(plugin.rdmsr(access(index)), Err(Otherwise::Fault), "{index:#x}");
            assert_eq!(plugin.wrmsr(access(index), 0), Err(Otherwise::Fault), "{index:#x}");
        }
    }

    #[test]
    fn a_reset_restores_values_and_rearms_fuses() {
        let mut plugin = loaded();
        plugin.wrmsr(SCRATCH, 1).unwrap();
        plugin.wrmsr(FUSE, 1).unwrap();
        plugin.reset();
        assert_eq!(plugin.rdmsr(SCRATCH), Ok(0));
        assert_eq!(plugin.rdmsr(FUSE), Ok(0));
        assert_eq!(plugin.wrmsr(FUSE, 2), Ok(()));
    }

    #[test]
    fn a_newer_instance_takes_values_and_blown_fuses_over() {
        let host = Host::fresh();
        let mut old: VendorRange = host.load_for(None, CONFIG).unwrap();
        old.wrmsr(SCRATCH, 0x1234).unwrap();
        old.wrmsr(FUSE, 7).unwrap();
        let saved = host.save(&old, "0.1.0").unwrap();
        let mut new: VendorRange = host.load_for(None, CONFIG).unwrap();
        new.restore(&saved).unwrap();
        assert_eq!(new.rdmsr(SCRATCH), Ok(0x1234));
        assert_eq!(new.rdmsr(FUSE), Ok(7));
        assert_eq!(new.wrmsr(FUSE, 8), Err(Otherwise::Fault));

        let other = CONFIG.replace("0x56440001", "0x56440003");
        let mut other: VendorRange = host.load_for(None, &other).unwrap();
        let error = other.restore(&saved).unwrap_err();
        assert!(alloc::format!("{error}").contains("register 0x56440001"), "{error}");
    }
}
