//! One domain as the guest sees it: its registers, and where its energy comes from.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::Error;

use crate::counter::Counter;
use crate::domain::Domain;
use crate::energy::{Energy, EnergyUnit, Picojoules};
use crate::limit::{self, Limits};
use crate::meter::Interval;

/// A domain of the guest's package.
#[derive(Debug, Clone)]
pub(crate) struct Zone {
    pub(crate) domain: Domain,
    pub(crate) limits: Limits,
    /// `…_POWER_INFO`, for domains that have it.
    pub(crate) power_info: u64,
    unit: EnergyUnit,
    energy: Energy,
    source: Source,
}

/// Where a domain's energy comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// The host's counters, one for each package; the guest gets its share by
    /// CPU time.
    Host(Vec<Counter>),
    /// Calculated.
    Model(Power),
}

/// The power of a modelled domain, in milliwatts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Power {
    /// At all times.
    pub(crate) idle_mw: u32,
    /// In addition, for each vCPU that runs.
    pub(crate) vcpu_mw: u32,
}

/// A zone's saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) domain: Domain,
    unit: EnergyUnit,
    energy: Energy,
    limits: limit::Kept,
}

impl Zone {
    /// A domain that has used nothing.
    pub(crate) fn new(limits: Limits, power_info: u64, unit: EnergyUnit, source: Source) -> Self {
        let domain = limits.domain();
        Zone { domain, limits, power_info, unit, energy: Energy::default(), source }
    }

    /// The finest unit of the host's counters that it uses, if any.
    pub(crate) fn finest_host_unit(&self) -> Option<EnergyUnit> {
        match &self.source {
            Source::Host(counters) => counters.iter().map(Counter::unit).max(),
            Source::Model(_) => None,
        }
    }

    /// `…_ENERGY_STATUS`
    pub(crate) fn energy_status(&self) -> u64 {
        self.energy.counter(self.unit)
    }

    /// The counter of one of `count` equal parts.
    pub(crate) fn energy_of_one(&self, count: u32) -> u64 {
        self.energy.part(count).counter(self.unit)
    }

    /// Adds what the guest used in this interval.
    pub(crate) fn advance(&mut self, interval: &Interval) {
        let used = self.source.used(interval);
        self.energy.add(used);
    }

    /// Drops the energy up to now.
    pub(crate) fn restart(&mut self) {
        if let Source::Host(counters) = &mut self.source {
            for counter in counters {
                let _ = counter.used();
            }
        }
    }

    pub(crate) fn reset(&mut self) {
        self.restart();
        self.energy = Energy::default();
        self.limits.reset();
    }

    pub(crate) fn keep(&self) -> Kept {
        let Zone { domain, unit, energy, limits, .. } = self;
        Kept { domain: *domain, unit: *unit, energy: *energy, limits: limits.keep() }
    }

    /// Restores a saved state of the same domain.
    ///
    /// # Errors
    /// A state that no use can have led to, or that the guest would misread.
    pub(crate) fn take_over(&mut self, kept: &Kept) -> Result<(), Error> {
        let domain = self.domain;
        if kept.unit != self.unit {
            return Err(Error::new(format_args!(
                "the guest counts the energy of `{domain}` in units of 2^-{} J, and the \
                 configuration has 2^-{} J now; leave the units as they were",
                kept.unit.exponent(),
                self.unit.exponent(),
            )));
        }
        if !kept.energy.is_sound() || self.limits.take_over(kept.limits).is_none() {
            return Err(Error::new(format_args!("the saved state of `{domain}` is damaged")));
        }
        self.energy = kept.energy;
        Ok(())
    }
}

impl Source {
    /// Whether it has anything to count; the host's MSRs are 0 in a host that is
    /// itself a VM of KVM.
    pub(crate) fn counts(&self) -> bool {
        match self {
            Source::Host(counters) => counters.iter().all(Counter::counts),
            Source::Model(_) => true,
        }
    }

    fn used(&mut self, interval: &Interval) -> Picojoules {
        match self {
            Source::Host(counters) => {
                let sum = counters.iter_mut().map(|counter| counter.used().0).sum();
                interval.share(Picojoules(sum))
            }
            // Milliwatts times nanoseconds.
            Source::Model(power) => Picojoules(
                u128::from(power.idle_mw) * u128::from(interval.elapsed_ns)
                    + u128::from(power.vcpu_mw) * u128::from(interval.ran_ns),
            ),
        }
    }
}
