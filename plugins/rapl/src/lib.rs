//! Intel's RAPL (Running Average Power Limit; Intel SDM volume 3, section
//! 15.10): the energy of a guest's package, counted from the host's counters or
//! from a model, with the units and limits around it.
#![no_std]

extern crate alloc;

mod config;
mod counter;
mod domain;
mod energy;
mod limit;
mod meter;
mod source;
#[cfg(test)]
mod tests;
mod zone;

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{
    Access, Bits64, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, Timer,
    export, log, time, timer,
};

use domain::{POWER_UNIT, Register};
use meter::Meter;
use source::Kind;
use zone::Zone;

/// The RAPL of the VM's package.
#[derive(Debug, Clone)]
struct Rapl {
    /// Where the energy comes from.
    kind: Kind,
    /// `MSR_RAPL_POWER_UNIT`
    power_unit: u64,
    zones: Vec<Zone>,
    meter: Meter,
    /// The counters change at most this often.
    update_ns: u64,
    /// The host's counters are read at least this often; `None` if they are not
    /// used.
    sample_ns: Option<u64>,
}

/// The saved state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    units: Bits64,
    domains: Vec<zone::Kept>,
}

impl Plugin for Rapl {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let rapl = config::read(setup)?;
        if let Some(sample_ns) = rapl.sample_ns {
            timer::call_at(time::monotonic_ns().saturating_add(sample_ns)).map_err(|_| {
                Error::in_config(
                    "source",
                    "the host's counters wrap, so they are read from time to time; grant `timer`",
                )
            })?;
        }
        let domains = if rapl.zones.len() == 1 { "domain" } else { "domains" };
        log::info!("energy from {}, {} {domains}", rapl.kind, rapl.zones.len());
        Ok(rapl)
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        if access.index == POWER_UNIT {
            return Ok(self.power_unit);
        }
        let (_, register) = self.register(access.index)?;
        if register == Register::EnergyStatus && self.meter.since_last_ns() >= self.update_ns {
            self.advance();
        }
        let (zone, _) = self.register(access.index)?;
        Ok(match register {
            Register::PowerLimit => zone.limits.limit(),
            Register::EnergyStatus => zone.energy_status(),
            // Nothing is ever throttled.
            Register::PerfStatus => 0,
            Register::PowerInfo => zone.power_info,
            Register::Policy => zone.limits.policy(),
        })
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        let (zone, register) = self.register(access.index)?;
        match register {
            Register::PowerLimit => zone.limits.write_limit(value),
            Register::Policy => zone.limits.write_policy(value),
            Register::EnergyStatus | Register::PerfStatus | Register::PowerInfo => {
                Err(Otherwise::Fault)
            }
        }
    }
}

impl Rapl {
    /// The register of an MSR. The registers of a domain that the guest does not
    /// have fault, as in hardware.
    fn register(&mut self, msr: MsrIndex) -> Result<(&mut Zone, Register), Otherwise> {
        let (domain, register) = domain::register(msr).ok_or(Otherwise::Fault)?;
        let zone = self.zones.iter_mut().find(|zone| zone.domain == domain);
        zone.map(|zone| (zone, register)).ok_or(Otherwise::Fault)
    }

    /// Updates the counters.
    fn advance(&mut self) {
        let interval = self.meter.read();
        self.zones.iter_mut().for_each(|zone| zone.advance(&interval));
    }
}

impl Timer for Rapl {
    fn timer(&mut self) {
        self.advance();
        if let Some(sample_ns) = self.sample_ns {
            // A host that accepted an earlier timer does not refuse this one.
            let _ = timer::call_at(time::monotonic_ns().saturating_add(sample_ns));
        }
    }
}

impl Reset for Rapl {
    fn reset(&mut self) {
        self.meter.restart();
        self.zones.iter_mut().for_each(Zone::reset);
    }
}

impl Persist for Rapl {
    fn save(&self) -> impl Serialize {
        let mut now = self.clone();
        now.advance();
        Kept { units: Bits64(self.power_unit), domains: now.zones.iter().map(Zone::keep).collect() }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let Kept { units, domains } = saved.state()?;
        if units.0 != self.power_unit {
            return Err(Error::new(format_args!(
                "the guest has read the units {units}, and the configuration has {} now; leave \
                 `units` as it was",
                Bits64(self.power_unit),
            )));
        }
        for kept in &domains {
            let zone = self.zones.iter_mut().find(|zone| zone.domain == kept.domain);
            let zone = zone.ok_or_else(|| {
                Error::new(format_args!(
                    "the guest has the domain `{}`, which is no longer configured",
                    kept.domain
                ))
            })?;
            zone.take_over(kept)?;
        }
        // The energy since then belongs to the old instance.
        self.meter.restart();
        self.zones.iter_mut().for_each(Zone::restart);
        Ok(())
    }
}

export!(Rapl: Reset, Persist, Timer);
