//! What became of accesses, in numbers.

use std::sync::Arc;

use wasmsr_interface::MsrIndex;

use super::latency::Latency;

/// What became of the accesses to one MSR, answered by one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MsrCounts {
    /// The MSR; `None` for the sum of all MSRs without a row of their own, and for
    /// what the plugin did outside accesses.
    pub index: Option<MsrIndex>,
    /// The plugin that answered; `None` for accesses that were unhandled.
    pub plugin: Option<Arc<str>>,
    /// `rdmsr`s.
    pub reads: u64,
    /// `wrmsr`s.
    pub writes: u64,
    /// Accesses that ended with #GP, as far as the engine decided it.
    pub faults: u64,
    /// Accesses that `on-failure` answered: the plugin trapped, overran a limit, or
    /// backed off after that. In the row without an MSR: timers, resets and reports
    /// that failed.
    pub failures: u64,
    /// Times of accesses in the engine and its plugins: about as many as there
    /// were, though only a sample was timed.
    pub latency: Latency,
    /// Fuel that the plugin used, for the timed accesses of which it is known...
    pub fuel: u64,
    /// ... and how many those are.
    pub metered: u64,
}

impl MsrCounts {
    /// Reads and writes.
    pub fn accesses(&self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// Fuel that an access takes on average, as far as it is known.
    pub fn mean_fuel(&self) -> Option<u64> {
        self.fuel.checked_div(self.metered)
    }

    /// Adds the counts of another row.
    pub fn add(&mut self, other: &MsrCounts) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.faults = self.faults.saturating_add(other.faults);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.add(&other.latency);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.metered = self.metered.saturating_add(other.metered);
    }
}
