//! Counts one access: begun before the first plugin is asked, ended with the
//! decision.

use wasmsr_interface::{MsrIndex, MsrOp, Outcome};

use super::counters::Counters;
use super::row::{Row, Sample};
use crate::msr::{Decision, SlotId};

/// An access that is being answered.
pub(crate) struct Meter<'a> {
    counters: &'a Counters,
    index: MsrIndex,
    /// The first claimant, in whose row the access is expected to end.
    first: Option<SlotId>,
    row: &'a Row,
    sample: Option<Sample>,
}

impl Counters {
    /// Begins an access that the plugin in `first` is asked for before all others.
    #[inline]
    pub(crate) fn begin(&self, index: MsrIndex, first: Option<SlotId>) -> Meter<'_> {
        let row = self.row(index, first);
        Meter { counters: self, index, first, row, sample: row.sample() }
    }
}

impl Meter<'_> {
    /// A plugin has answered. Of all that do, the last one decides, so its time and
    /// its fuel are what counts.
    #[inline]
    pub(crate) fn answered(&mut self, fuel: impl FnOnce() -> Option<u64>) {
        if let Some(sample) = &mut self.sample {
            sample.answered(fuel);
        }
    }

    /// Counts the access for the slot that decided, or for the policy.
    #[inline]
    pub(crate) fn end(mut self, op: MsrOp, decision: &Decision) {
        if decision.by.is_none() {
            self.answered(|| None);
        }
        let row = match decision.by == self.first {
            true => self.row,
            false => self.counters.row(self.index, decision.by),
        };
        row.count(op);
        if matches!(decision.outcome, Outcome::Fault) {
            row.count_fault();
        }
        if decision.failed {
            row.count_failure();
        }
        if let Some(sample) = &self.sample {
            row.cost(sample);
        }
    }
}
