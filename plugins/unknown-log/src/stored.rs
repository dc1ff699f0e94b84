//! Values that guests have written, within bounds.

use alloc::collections::BTreeMap;

use wasmsr_sdk::{Access, MsrIndex, VcpuId};

/// Most values at once. This many fit into a saved state beside the most
/// lessons.
pub(crate) const MOST: usize = 1024;

/// Which value: the MSR and its vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) msr: MsrIndex,
    /// `None` for the value that all vCPUs share.
    pub(crate) vcpu: Option<VcpuId>,
}

impl Slot {
    /// The vCPU's own value.
    pub(crate) fn own(access: Access) -> Self {
        Slot { msr: access.index, vcpu: Some(access.vcpu) }
    }

    /// The value that all vCPUs share.
    pub(crate) fn shared(access: Access) -> Self {
        Slot { msr: access.index, vcpu: None }
    }
}

/// There is no room for another value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The values that differ from those at the start. Writing the first value again
/// frees the room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored(BTreeMap<Slot, u64>);

impl Stored {
    pub(crate) fn read(&self, slot: Slot, initial: u64) -> u64 {
        self.0.get(&slot).copied().unwrap_or(initial)
    }

    pub(crate) fn write(&mut self, slot: Slot, value: u64, initial: u64) -> Result<(), Full> {
        if value == initial {
            self.0.remove(&slot);
        } else if self.0.len() < MOST || self.0.contains_key(&slot) {
            self.0.insert(slot, value);
        } else {
            return Err(Full);
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// All values, lowest MSR first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, u64)> {
        self.0.iter().map(|(&slot, &value)| (slot, value))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn slot(msr: u32, vcpu: Option<u32>) -> Slot {
        Slot { msr: MsrIndex(msr), vcpu: vcpu.map(VcpuId) }
    }

    proptest! {
        /// The model keeps every write, and searches it from the end.
        #[test]
        fn a_read_gives_the_last_write(
            writes in prop::collection::vec((0..3_u32, prop::option::of(0..2_u32), 0..3_u64), 0..40),
            initial in 0..3_u64,
        ) {
            let mut stored = Stored::default();
            let mut history: Vec<(Slot, u64)> = Vec::new();
            for (msr, vcpu, value) in writes {
                prop_assert_eq!(stored.write(slot(msr, vcpu), value, initial), Ok(()));
                history.push((slot(msr, vcpu), value));
                for (msr, vcpu) in [(0, None), (0, Some(0)), (1, Some(1)), (2, None)] {
                    let last = history.iter().rev().find(|(at, _)| *at == slot(msr, vcpu));
                    let expected = last.map_or(initial, |(_, value)| *value);
                    prop_assert_eq!(stored.read(slot(msr, vcpu), initial), expected);
                }
                prop_assert!(stored.iter().all(|(_, value)| value != initial));
            }
        }
    }

    #[test]
    fn a_walk_over_all_msrs_finds_an_end() {
        let mut stored = Stored::default();
        let refused = (0..5000).filter(|&msr| stored.write(slot(msr, None), 1, 0).is_err()).count();
        assert_eq!((stored.iter().count(), refused), (MOST, 5000 - MOST));
        // A stored value keeps its place until it is freed.
        assert_eq!(stored.write(slot(0, None), u64::MAX, 0), Ok(()));
        assert_eq!(stored.write(slot(5000, None), 0, 0), Ok(()));
        assert_eq!(stored.write(slot(0, None), 0, 0), Ok(()));
        assert_eq!(stored.write(slot(5000, None), 2, 0), Ok(()));
        assert_eq!(stored.write(slot(5001, None), 2, 0), Err(Full));
    }
}
