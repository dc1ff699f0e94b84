//! RAPL (Running Average Power Limit; Intel SDM volume 3, section 15.10), and AMD's
//! counters of the same kind: the energy of a guest's package, counted from the host's
//! counters or from a model, with the units and limits around it.
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
    export, log, time, timer, vcpus,
};

use domain::{AMD_CORE_ENERGY, AMD_POWER_UNIT, Domain, POWER_UNIT, Register};
use meter::Meter;
use source::Kind;
use zone::Zone;

/// Whose registers a guest has; without one, both, of which it asks for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Vendor {
    Intel,
    Amd,
}

/// The RAPL of the VM's package.
#[derive(Debug, Clone)]
struct Rapl {
    vendor: Option<Vendor>,
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
    /// Run time that did not fit into an interval yet.
    #[serde(default)]
    left_over_ns: u64,
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
        self.check_vendor(access.index)?;
        match access.index {
            POWER_UNIT | AMD_POWER_UNIT => return Ok(self.power_unit),
            AMD_CORE_ENERGY => return Ok(self.energy_of_a_core()),
            _ => {}
        }
        let (_, register) = self.register(access.index)?;
        if register == Register::EnergyStatus {
            self.advance_if_due();
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
        self.check_vendor(access.index)?;
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

    /// Refuses the registers of the vendor that the guest's processor is not of.
    fn check_vendor(&self, msr: MsrIndex) -> Result<(), Otherwise> {
        let of = if domain::is_amds(msr) { Vendor::Amd } else { Vendor::Intel };
        match self.vendor.is_none_or(|vendor| vendor == of) {
            true => Ok(()),
            false => Err(Otherwise::Fault),
        }
    }

    /// What one of the cores used, each the same. Readers take a 0 for a counter that does
    /// not count, and stop at a #GP.
    fn energy_of_a_core(&mut self) -> u64 {
        self.advance_if_due();
        let cores = self.zones.iter().find(|zone| zone.domain == Domain::Core);
        cores.map_or(0, |zone| zone.energy_of_one(vcpus::count()))
    }

    fn advance_if_due(&mut self) {
        if self.meter.since_last_ns() >= self.update_ns {
            self.advance();
        }
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
        Kept {
            units: Bits64(self.power_unit),
            domains: now.zones.iter().map(Zone::keep).collect(),
            left_over_ns: now.meter.left_over_ns(),
        }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let Kept { units, domains, left_over_ns } = saved.state()?;
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
        self.meter.take_over(left_over_ns);
        self.zones.iter_mut().for_each(Zone::restart);
        Ok(())
    }
}

export!(Rapl: Reset, Persist, Timer);
