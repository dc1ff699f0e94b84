//! The MSRs of AMD processors without which Linux, Windows and the BSDs complain
//! or crash, if KVM does not know them or refuses a value
//! (`KVM_MSR_EXIT_REASON_UNKNOWN` and `KVM_MSR_EXIT_REASON_INVAL`, KVM api,
//! section 5, `KVM_EXIT_X86_RDMSR`). Accesses that KVM answers do not reach the
//! plugin.
#![no_std]

extern crate alloc;

mod at_start;
mod config;
mod registers;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use serde::Serialize;
use wasmsr_sdk::{
    Access, Error, MsrIndex, MsrRange, Otherwise, Persist, Plugin, Reason, Reset, Saved, Setup,
    export, kvm,
};

use at_start::AtStart;
use registers::{Read, Registers, Write};

struct AmdCompat {
    except: Vec<MsrRange>,
    at_start: AtStart,
}

impl AmdCompat {
    fn find(&self, msr: MsrIndex) -> Result<&'static Registers, Otherwise> {
        let excepted = || self.except.iter().any(|range| range.contains(msr));
        registers::find(msr).filter(|_| !excepted()).ok_or(Otherwise::Pass)
    }
}

impl Plugin for AmdCompat {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let config = config::read(setup)?;
        let at_start = AtStart::new(setup.vcpu(), &config);
        at_start.apply();
        Ok(AmdCompat { except: config.except, at_start })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match self.find(access.index)?.read {
            Read::Value(value) => Ok(value),
            Read::Pass => Err(Otherwise::Pass),
        }
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        match self.find(access.index)?.write {
            Write::Ignored => Ok(()),
            Write::Only(taken) if value == taken => Ok(()),
            // Newer kernels accept the VMM's 0 even for MSRs that the guest
            // lacks.
            Write::Offered { refused, .. } if access.reason != Reason::Invalid => refused,
            Write::Offered { bits, refused } => {
                kvm::wrmsr_as_guest(access.index, value & bits).or(refused)
            }
            Write::Only(_) | Write::Pass => Err(Otherwise::Pass),
        }
    }
}

impl Reset for AmdCompat {
    fn reset(&mut self) {
        self.at_start.apply();
    }
}

impl Persist for AmdCompat {
    fn save(&self) -> impl Serialize {
        self.at_start.keep()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        self.at_start.take_over(saved.state()?);
        Ok(())
    }
}

export!(AmdCompat: Persist, Reset);
