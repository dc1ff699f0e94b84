//! Counts one access: begun before the first plugin is asked, ended with the
//! decision.

use wasmsr_interface::{MsrIndex, MsrOp, Outcome};

use super::counters::Counters;
use super::row::{Row, Sample};
use crate::msr::{Decision, SlotId};

/// An access that is being answered.
pub(crate) struct Meter<'a> {
    /// Where it counts: at first the row of the first claimant.
    row: &'a Row,
    sample: Option<Sample>,
}

impl Counters {
    /// Begins an access that the plugin in `first` is asked for before all others.
    #[inline]
    pub(crate) fn begin(&self, index: MsrIndex, first: Option<SlotId>) -> Meter<'_> {
        let row = self.row(index, first);
        let mut meter = Meter { row, sample: None };
        if let Some(weight) = row.comes() {
            meter.sample = Some(Sample::begin(weight));
        }
        meter
    }
}

impl<'a> Meter<'a> {
    /// An answer is there. Of all plugins that are asked, the last one decides, so its
    /// time and its fuel are what counts.
    #[inline]
    pub(crate) fn answered(&mut self, fuel: impl FnOnce() -> Option<u64>) {
        if let Some(sample) = &mut self.sample {
            sample.answered(fuel);
        }
    }

    /// Counts the access for another slot than the first claimant's, or for the policy.
    #[inline]
    pub(crate) fn moves_to(
        &mut self,
        counters: &'a Counters,
        index: MsrIndex,
        slot: Option<SlotId>,
    ) {
        self.row = counters.row(index, slot);
    }

    /// Counts the access.
    #[inline]
    pub(crate) fn end(&self, op: MsrOp, decision: &Decision) {
        let row = self.row;
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
