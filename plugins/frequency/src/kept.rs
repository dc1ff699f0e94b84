//! Registers that keep what a guest writes.

use alloc::vec::Vec;

use wasmsr_sdk::{Bits64, Error, MsrIndex, Otherwise};

/// A register that a guest writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) msr: u32,
    pub(crate) at_reset: u64,
    /// The bits that are kept.
    pub(crate) mask: u64,
    pub(crate) others: Others,
    /// The bits that no write clears once they are set.
    pub(crate) sticky: u64,
}

/// What a write to the other bits does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    Ignored,
    Fault,
}

/// The values of a list of registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registers {
    all: Vec<(Kept, u64)>,
}

impl Registers {
    pub(crate) fn new(all: &[Kept]) -> Self {
        Registers { all: all.iter().map(|kept| (*kept, kept.at_reset)).collect() }
    }

    /// The value of one, if it is in the list.
    pub(crate) fn get(&self, msr: MsrIndex) -> Option<u64> {
        self.all.iter().find(|(kept, _)| kept.msr == msr.0).map(|(_, value)| *value)
    }

    /// Takes a write. A register that is not in the list is read-only.
    pub(crate) fn write(&mut self, msr: MsrIndex, new: u64) -> Result<(), Otherwise> {
        let found = self.all.iter_mut().find(|(kept, _)| kept.msr == msr.0);
        let (kept, value) = found.ok_or(Otherwise::Fault)?;
        if (new ^ *value) & !kept.mask != 0 && kept.others == Others::Fault {
            return Err(Otherwise::Fault);
        }
        *value = *value & !kept.mask | new & kept.mask | *value & kept.sticky;
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.all.iter_mut().for_each(|(kept, value)| *value = kept.at_reset);
    }

    /// The values that a guest has changed: the others are the configuration's, also where
    /// that is another one.
    pub(crate) fn keep(&self) -> Vec<(MsrIndex, Bits64)> {
        let changed = self.all.iter().filter(|(kept, value)| *value != kept.at_reset);
        changed.map(|(kept, value)| (MsrIndex(kept.msr), Bits64(*value))).collect()
    }

    /// Restores saved values.
    ///
    /// # Errors
    /// A register that the configuration no longer has, or a value that it cannot hold.
    pub(crate) fn take_over(&mut self, saved: &[(MsrIndex, Bits64)]) -> Result<(), Error> {
        for (msr, Bits64(new)) in saved {
            let found = self.all.iter_mut().find(|(kept, _)| kept.msr == msr.0);
            let fits = |kept: &Kept| (new ^ kept.at_reset) & !kept.mask == 0;
            let (_, value) = found.filter(|(kept, _)| fits(kept)).ok_or_else(|| {
                Error::new(format_args!(
                    "register {msr} cannot hold its saved value, {}, with this configuration; \
                     leave it as it was",
                    Bits64(*new)
                ))
            })?;
            *value = *new;
        }
        Ok(())
    }
}
