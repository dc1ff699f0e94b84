//! One vCPU's counters: a table of rows, bounded whatever the guest does.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wasmsr_interface::MsrIndex;

use super::latency::add;
use super::row::Row;
use crate::msr::SlotId;

/// Rows of one vCPU for MSRs. If a guest accesses more MSRs than this, the rest is
/// counted together, by plugin.
const ROWS: usize = 1024;

/// Rows beyond which none is added, so that probing stays short.
pub(super) const FULL: usize = ROWS * 3 / 4;

/// What a row counts: accesses to this MSR that this slot answered, or, without a
/// slot, the policy.
#[derive(Debug, Clone, Copy)]
struct RowKey {
    index: MsrIndex,
    slot: Option<SlotId>,
}

impl RowKey {
    /// Never 0, which marks a free row.
    fn bits(self) -> u64 {
        let slot = self.slot.map_or(1, |slot| 2 + u64::from(slot.0));
        slot << 32 | u64::from(self.index.0)
    }

    fn from_bits(bits: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of `bits`")]
        let (index, slot) = (MsrIndex(bits as u32), ((bits >> 32) as u16).checked_sub(2));
        RowKey { index, slot: slot.map(SlotId) }
    }
}

/// One vCPU's counters. Only the vCPU's own thread writes.
pub(crate) struct Counters {
    rows: Box<[Row]>,
    used: AtomicU64,
    /// For accesses without a row of their own, by slot, so that a guest cannot
    /// hide a plugin by filling the table.
    slots: Box<[Row]>,
    /// The same for the policy.
    policy: Row,
}

impl Counters {
    pub(crate) fn new(slots: usize) -> Self {
        let rows = |count| std::iter::repeat_with(Row::default).take(count).collect();
        Counters {
            rows: rows(ROWS),
            used: AtomicU64::new(0),
            slots: rows(slots),
            policy: Row::default(),
        }
    }

    /// The row for an MSR and the slot that answers it; a shared one if all are taken.
    #[inline]
    pub(super) fn row(&self, index: MsrIndex, slot: Option<SlotId>) -> &Row {
        let key = RowKey { index, slot }.bits();
        // Fibonacci hashing: neighbouring MSRs spread over the table.
        let home = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % ROWS;
        match self.rows.get(home) {
            Some(row) if row.key.load(Relaxed) == key => row,
            _ => self.probe(key, home),
        }
    }

    /// The row of an MSR that is new, or displaced by another.
    #[cold]
    fn probe(&self, key: u64, home: usize) -> &Row {
        for probe in 0..ROWS {
            let Some(row) = self.rows.get((home + probe) % ROWS) else { break };
            match row.key.load(Relaxed) {
                found if found == key => return row,
                0 if self.used.load(Relaxed) < FULL as u64 => {
                    add(&self.used, 1);
                    row.key.store(key, Relaxed);
                    return row;
                }
                0 => break,
                _ => {}
            }
        }
        self.without_msr(RowKey::from_bits(key).slot)
    }

    /// Counts a failure of the plugin in this slot at no access: in a timer, a reset
    /// or a report.
    pub(crate) fn failed_at_no_access(&self, slot: SlotId) {
        self.without_msr(Some(slot)).count_failure();
    }

    /// The row for what has no MSR, or whose MSR has no row.
    fn without_msr(&self, slot: Option<SlotId>) -> &Row {
        let row = slot.and_then(|slot| self.slots.get(usize::from(slot.0)));
        row.unwrap_or(&self.policy)
    }

    /// All rows, with the MSR and the slot that each counts.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Option<MsrIndex>, Option<SlotId>, &Row)> {
        let of_msrs = self.rows.iter().map(|row| {
            let RowKey { index, slot } = RowKey::from_bits(row.key.load(Relaxed));
            (Some(index), slot, row)
        });
        let slots = (0..).map(SlotId).zip(&self.slots);
        let of_slots = slots.map(|(slot, row)| (None, Some(slot), row));
        of_msrs.chain(of_slots).chain([(None, None, &self.policy)])
    }
}
