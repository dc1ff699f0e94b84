//! The registers of the range, with fast look-up by MSR.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use wasmsr_sdk::MsrIndex;

use crate::register::{Kept, Register};

/// Lowest MSR of the range in `plugin.toml`.
pub(crate) const FIRST: MsrIndex = MsrIndex(0x5644_0000);
/// Highest MSR of the range in `plugin.toml`.
pub(crate) const LAST: MsrIndex = MsrIndex(0x5644_00ff);

const LEN: usize = (LAST.0 - FIRST.0 + 1) as usize;

/// A slot for each MSR of the range.
#[derive(Debug)]
pub(crate) struct Bank(Box<[Option<Register>]>);

impl Bank {
    /// No register at all.
    pub(crate) fn empty() -> Self {
        Bank(vec![None; LEN].into())
    }

    /// The place for an MSR's register; `None` outside the range.
    pub(crate) fn slot(&mut self, msr: MsrIndex) -> Option<&mut Option<Register>> {
        self.0.get_mut(msr.0.checked_sub(FIRST.0)? as usize)
    }

    /// The register of an MSR, if it has one.
    pub(crate) fn get_mut(&mut self, msr: MsrIndex) -> Option<&mut Register> {
        self.slot(msr)?.as_mut()
    }

    /// The saved state of all registers, lowest MSR first.
    pub(crate) fn keep(&self) -> Vec<(MsrIndex, Kept)> {
        let msrs = (FIRST.0..).map(MsrIndex);
        msrs.zip(&self.0).filter_map(|(msr, slot)| Some((msr, slot.as_ref()?.keep()))).collect()
    }

    /// All registers, lowest MSR first.
    pub(crate) fn registers_mut(&mut self) -> impl Iterator<Item = &mut Register> {
        self.0.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn the_manifest_has_the_same_range() {
        let range = format!("range = \"{FIRST}-{LAST}\"");
        assert!(include_str!("../plugin.toml").contains(&range), "{range}");
    }
}
