//! How often the set in charge of a VM has changed.

use std::collections::BTreeMap;

use crate::control::VmInfo;
use crate::snapshot::OTHERS;

/// Most causes of returns that are told apart.
const MOST_CAUSES: usize = 16;

/// The changes of a run, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The number of the set in charge, from 1 in each boot; 0 between two.
    pub(crate) generation: u64,
    pub(crate) swaps: u64,
    /// Returns, by cause.
    pub(crate) returns: BTreeMap<String, u64>,
}

impl Changes {
    /// As a VM's controls tell them.
    pub(crate) fn of(info: &VmInfo) -> Self {
        let mut returns: BTreeMap<String, u64> = BTreeMap::new();
        for (cause, count) in &info.returns {
            let has_place = returns.len() < MOST_CAUSES;
            let cause = if has_place { cause } else { OTHERS };
            let sum = returns.entry(cause.to_owned()).or_default();
            *sum = sum.saturating_add(*count);
        }
        Changes { generation: info.generation, swaps: info.swaps, returns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_bounded() {
        let returns = (0..100).map(|cause| (cause.to_string(), 1)).collect();
        let changes = Changes::of(&VmInfo { returns, ..VmInfo::default() });
        assert_eq!(changes.returns.len(), MOST_CAUSES + 1);
        assert_eq!(changes.returns.get(OTHERS), Some(&(100 - MOST_CAUSES as u64)));
    }
}
