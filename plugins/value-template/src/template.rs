//! The entries of a template, with fast look-up by MSR.

use alloc::vec::Vec;

use wasmsr_sdk::MsrIndex;

use crate::rule::Rule;

/// Entries whose MSRs are all different.
#[derive(Debug)]
pub(crate) struct Template {
    /// By their first MSR.
    rules: Vec<Rule>,
}

/// Two entries with one MSR.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Twice {
    pub(crate) msr: MsrIndex,
    pub(crate) earlier: usize,
    pub(crate) later: usize,
}

impl Template {
    /// The entries as they are listed.
    pub(crate) fn new(rules: Vec<Rule>) -> Result<Self, Twice> {
        let mut placed: Vec<(usize, Rule)> = rules.into_iter().enumerate().collect();
        placed.sort_by_key(|(_, rule)| rule.range);
        for ((a, low), (b, high)) in placed.iter().zip(placed.iter().skip(1)) {
            if low.range.contains(high.range.first) {
                let (earlier, later) = (*a.min(b), *a.max(b));
                return Err(Twice { msr: high.range.first, earlier, later });
            }
        }
        Ok(Template { rules: placed.into_iter().map(|(_, rule)| rule).collect() })
    }

    /// The entry of an MSR, if it has one.
    pub(crate) fn find(&self, msr: MsrIndex) -> Option<&Rule> {
        let after = self.rules.partition_point(|rule| rule.range.first <= msr);
        self.rules.get(after.checked_sub(1)?).filter(|rule| rule.range.contains(msr))
    }

    /// All entries, lowest MSR first.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }
}
