//! Frequency, turbo and temperature of a guest's processor, Intel's or AMD's: what it
//! says of itself, and the counters and requests of each vCPU.
#![no_std]

extern crate alloc;

mod amd;
mod config;
mod counters;
mod intel;
mod kept;
mod speeds;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{
    Access, Bits64, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, export, time,
};

use amd::Amd;
use counters::Counters;
use intel::Intel;
use speeds::Speeds;

/// `IA32_MPERF`
const MPERF: MsrIndex = MsrIndex(0xe7);
/// `IA32_APERF`
const APERF: MsrIndex = MsrIndex(0xe8);
/// AMD's read-only copies of both (APM volume 2, "Effective Frequency").
const MPERF_READ_ONLY: MsrIndex = MsrIndex(0xc000_00e7);
const APERF_READ_ONLY: MsrIndex = MsrIndex(0xc000_00e8);

/// The frequency of one vCPU.
#[derive(Debug, Clone)]
struct Frequency {
    speeds: Speeds,
    vendor: Vendor,
    counters: Counters,
}

/// The registers that only one vendor has.
#[derive(Debug, Clone)]
enum Vendor {
    Intel(Intel),
    Amd(Amd),
}

/// The saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    mperf: Bits64,
    aperf: Bits64,
    registers: Vec<(MsrIndex, Bits64)>,
}

impl Plugin for Frequency {
    fn new(setup: &Setup) -> Result<Self, Error> {
        config::read(setup)
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match access.index {
            MPERF | MPERF_READ_ONLY => {
                self.count();
                Ok(self.counters.mperf)
            }
            APERF | APERF_READ_ONLY => {
                self.count();
                Ok(self.counters.aperf)
            }
            msr => match &self.vendor {
                Vendor::Intel(intel) => intel.read(msr, &self.speeds),
                Vendor::Amd(amd) => amd.read(msr, &self.speeds),
            },
        }
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        // What was counted so far was counted at the old speed.
        self.count();
        match access.index {
            MPERF => self.counters.mperf = value,
            APERF => self.counters.aperf = value,
            msr => match &mut self.vendor {
                Vendor::Intel(intel) => intel.write(msr, value)?,
                Vendor::Amd(amd) => amd.write(msr, value)?,
            },
        }
        Ok(())
    }
}

impl Frequency {
    /// Counts up to now.
    fn count(&mut self) {
        let mhz = match &self.vendor {
            Vendor::Intel(intel) => intel.mhz(&self.speeds),
            Vendor::Amd(amd) => amd.mhz(&self.speeds),
        };
        self.counters.advance(time::tsc(), mhz, self.speeds.base);
    }
}

impl Reset for Frequency {
    fn reset(&mut self) {
        self.counters = Counters::new(time::tsc());
        match &mut self.vendor {
            Vendor::Intel(intel) => intel.registers.reset(),
            Vendor::Amd(amd) => amd.registers.reset(),
        }
    }
}

impl Persist for Frequency {
    fn save(&self) -> impl Serialize {
        let mut now = self.clone();
        now.count();
        let registers = match &now.vendor {
            Vendor::Intel(intel) => intel.registers.keep(),
            Vendor::Amd(amd) => amd.registers.keep(),
        };
        Kept { mperf: Bits64(now.counters.mperf), aperf: Bits64(now.counters.aperf), registers }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let Kept { mperf, aperf, registers } = saved.state()?;
        let held = match &mut self.vendor {
            Vendor::Intel(intel) => &mut intel.registers,
            Vendor::Amd(amd) => &mut amd.registers,
        };
        held.take_over(&registers)?;
        self.counters = Counters::new(time::tsc());
        (self.counters.mperf, self.counters.aperf) = (mperf.0, aperf.0);
        Ok(())
    }
}

export!(Frequency: Reset, Persist);
