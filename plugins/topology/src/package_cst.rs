//! `MSR_PKG_CST_CONFIG_CONTROL` (Intel SDM volume 4, table 2-20 and those of later
//! processors): how deep the package may sleep, and the lock of that.

use wasmsr_sdk::{Bits64, Error, MsrIndex, Otherwise};

pub(crate) const PACKAGE_CST: MsrIndex = MsrIndex(0xe2);

/// Package C-state limit in bits 3:0, I/O MWAIT redirection, the lock, and demotions in
/// bits 30:24.
const FIELDS: u64 = 0x7f00_840f;

/// Until the next reset (SDM: "CFG Lock").
const LOCK: u64 = 1 << 15;

/// The register of one vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackageCst {
    at_reset: u64,
    value: u64,
}

/// The value of a configuration.
pub(crate) fn at_reset(value: Bits64) -> Result<PackageCst, Error> {
    match value.0 & !FIELDS {
        0 => Ok(PackageCst { at_reset: value.0, value: value.0 }),
        reserved => Err(Error::in_config(
            "package-cst",
            format_args!("bit {} of {value} is reserved", reserved.trailing_zeros()),
        )),
    }
}

impl PackageCst {
    pub(crate) fn read(self) -> u64 {
        self.value
    }

    /// Keeps a write, which limits nothing. Reserved bits are dropped.
    pub(crate) fn write(&mut self, value: u64) -> Result<(), Otherwise> {
        if self.value & LOCK != 0 {
            return Err(Otherwise::Fault);
        }
        self.value = value & FIELDS;
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.value = self.at_reset;
    }

    pub(crate) fn at_reset(self) -> u64 {
        self.at_reset
    }

    /// Restores a saved value, of a register that had `at_reset` after a reset: `None` if no
    /// write can have led to it. A value that is still the configured one follows the
    /// configuration.
    pub(crate) fn take_over(&mut self, value: Bits64, at_reset: Bits64) -> Option<()> {
        if value == at_reset {
            self.value = self.at_reset;
            return Some(());
        }
        let locked = self.at_reset & LOCK != 0;
        let fits = value.0 & !FIELDS == 0 && (!locked || value.0 == self.at_reset);
        fits.then(|| self.value = value.0)
    }
}
