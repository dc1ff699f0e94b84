//! What a shadow has shown, in numbers.

use std::sync::Arc;
use std::time::Duration;

use wasmsr_interface::MsrIndex;

use super::agreement::MsrAgreement;

/// Most MSRs with counts of their own: a guest chooses which it accesses.
const MOST_MSRS: usize = 1024;

/// What a shadow has shown so far, over all vCPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// The shadow's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The plugin in charge.
    pub of: Arc<str>,
    /// Accesses that both were put.
    pub accesses: u64,
    /// Those that the shadow answered otherwise.
    pub answers: u64,
    /// Those that it answered alike, and starts, resets and timers, at which it
    /// would have changed something else: the guest's memory, KVM's MSRs, what
    /// exits, timers.
    pub effects: u64,
    /// Those that it does not claim.
    pub unclaimed: u64,
    /// Those, resets and timers, at which it failed; and 1 if it did not start.
    pub failures: u64,
    /// Of a kernel shadow: accesses that were not compared, in which the plugin in charge
    /// failed, passed them on or left them to KVM, or for which KVM's answer is not comparable.
    pub not_compared: u64,
    /// Of a kernel shadow: the first MSRs, sorted.
    pub msrs: Vec<MsrAgreement>,
    /// Accesses that the shadow was called for.
    pub timed: u64,
    /// What shadowing them, and timers, added to the time of the vCPUs.
    pub took: Duration,
    /// The time of these accesses without that. The shadow's is not to be held
    /// against it: no host call of a shadow reaches the host.
    pub took_in_charge: Duration,
    /// Accesses at which the fuel of both is known: neither failed.
    pub metered: u64,
    /// The shadow's fuel for these.
    pub fuel: u64,
    /// Fuel of the plugin in charge for these.
    pub fuel_in_charge: u64,
    /// One difference for each of the first subjects: MSRs and directions,
    /// starts, resets, timers.
    pub examples: Vec<String>,
}

impl ShadowCounts {
    /// Adds the counts of another shadow.
    pub fn add(&mut self, other: &ShadowCounts) {
        self.accesses = self.accesses.saturating_add(other.accesses);
        self.answers = self.answers.saturating_add(other.answers);
        self.effects = self.effects.saturating_add(other.effects);
        self.unclaimed = self.unclaimed.saturating_add(other.unclaimed);
        self.failures = self.failures.saturating_add(other.failures);
        self.not_compared = self.not_compared.saturating_add(other.not_compared);
        self.timed = self.timed.saturating_add(other.timed);
        self.took = self.took.saturating_add(other.took);
        self.took_in_charge = self.took_in_charge.saturating_add(other.took_in_charge);
        self.metered = self.metered.saturating_add(other.metered);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.fuel_in_charge = self.fuel_in_charge.saturating_add(other.fuel_in_charge);
    }

    /// What the shadow adds to the time of an access, its timers included.
    pub fn mean(&self) -> Option<Duration> {
        self.mean_of(self.took)
    }

    /// Mean time of an access without that.
    pub fn mean_in_charge(&self) -> Option<Duration> {
        self.mean_of(self.took_in_charge)
    }

    /// The shadow's mean fuel.
    pub fn mean_fuel(&self) -> Option<u64> {
        self.fuel.checked_div(self.metered)
    }

    /// Mean fuel of the plugin in charge, for the same accesses.
    pub fn mean_fuel_in_charge(&self) -> Option<u64> {
        self.fuel_in_charge.checked_div(self.metered)
    }

    fn mean_of(&self, time: Duration) -> Option<Duration> {
        let nanos = time.as_nanos().checked_div(self.timed.into())?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// The counts of one MSR; `None` if there is no room for another one.
    pub(super) fn agreement(&mut self, index: MsrIndex) -> Option<&mut MsrAgreement> {
        let place = match self.msrs.binary_search_by_key(&index, |row| row.index) {
            Ok(place) => place,
            Err(_) if self.msrs.len() >= MOST_MSRS => return None,
            Err(place) => {
                self.msrs.insert(place, MsrAgreement::new(index));
                place
            }
        };
        self.msrs.get_mut(place)
    }
}
