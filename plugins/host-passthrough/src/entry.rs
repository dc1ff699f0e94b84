//! One entry's MSRs: where their values come from, and what guests have written.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, MsrIndex, MsrRange, Otherwise, Refused, host};

/// The CPU whose MSRs the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// The one that the vCPU runs on.
    Current,
    /// One by the host's number for it.
    Cpu(u32),
}

/// When the host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum When {
    #[default]
    Read,
    Boot,
}

/// The effect of a write. The host's MSR is never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnWrite {
    #[default]
    Fault,
    Ignore,
    /// The guest reads its own value from then on.
    Keep,
}

/// An entry as the profile has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) range: MsrRange,
    pub(crate) from: From,
    pub(crate) when: When,
    /// The bits of the host's value that the guest sees.
    pub(crate) mask: u64,
    /// `None`: writes do not exit.
    pub(crate) on_write: Option<OnWrite>,
}

/// An entry in use.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) rules: Rules,
    /// One for each MSR, if the rules let it have its own value.
    own: Vec<Own>,
}

/// The value that the guest sees in place of the host's current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Own {
    /// As it was at boot.
    copied: Option<Bits64>,
    /// As the guest wrote it.
    kept: Option<Bits64>,
}

impl Rules {
    /// How many MSRs may have their own value.
    pub(crate) fn owned(&self) -> u64 {
        match self.when == When::Boot || self.on_write == Some(OnWrite::Keep) {
            true => u64::from(self.range.last.0 - self.range.first.0) + 1,
            false => 0,
        }
    }

    /// All MSRs of the entry.
    fn msrs(&self) -> impl Iterator<Item = MsrIndex> + use<> {
        (self.range.first.0..=self.range.last.0).map(MsrIndex)
    }

    /// The visible bits of the host's value.
    pub(crate) fn ask_host(&self, msr: MsrIndex) -> Result<u64, Refused> {
        let value = match self.from {
            From::Current => host::rdmsr(msr),
            From::Cpu(cpu) => host::rdmsr_on(cpu, msr),
        };
        Ok(value? & self.mask)
    }
}

impl Entry {
    /// An entry of few MSRs, with its copies from boot.
    ///
    /// # Errors
    /// The MSR that the host refuses to read.
    pub(crate) fn new(rules: Rules) -> Result<Self, MsrIndex> {
        let owned = usize::try_from(rules.owned()).unwrap_or(usize::MAX);
        let mut entry = Entry { rules, own: vec![Own::default(); owned] };
        match entry.copy() {
            Some(msr) => Err(msr),
            None => Ok(entry),
        }
    }

    /// Answers a read of one of the entry's MSRs.
    pub(crate) fn read(&self, msr: MsrIndex) -> Result<u64, Otherwise> {
        let own = self.place(msr).and_then(|place| self.own.get(place));
        match own.and_then(|own| own.kept.or(own.copied)) {
            Some(Bits64(value)) => Ok(value),
            None => Ok(self.rules.ask_host(msr)?),
        }
    }

    /// Takes a write of one of the entry's MSRs.
    pub(crate) fn write(&mut self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        match self.rules.on_write.ok_or(Otherwise::Kernel)? {
            OnWrite::Fault => Err(Otherwise::Fault),
            OnWrite::Ignore => Ok(()),
            OnWrite::Keep => {
                // As in hardware: an MSR that cannot be read cannot be written
                // either.
                self.read(msr)?;
                self.own_mut(msr).ok_or(Otherwise::Fault)?.kept = Some(Bits64(value));
                Ok(())
            }
        }
    }

    /// Restores the state at boot: fresh copies, no kept values. Returns an MSR
    /// that keeps an earlier copy because the host refuses to read it.
    pub(crate) fn reset(&mut self) -> Option<MsrIndex> {
        self.own.iter_mut().for_each(|own| own.kept = None);
        self.copy()
    }

    /// Each MSR that has its own value.
    pub(crate) fn own(&self) -> impl Iterator<Item = (MsrIndex, Own)> {
        self.rules.msrs().zip(self.own.iter().copied()).filter(|(_, own)| *own != Own::default())
    }

    /// Restores an MSR's saved value; `None` if this MSR could never hold it.
    pub(crate) fn take_over(&mut self, msr: MsrIndex, saved: Own) -> Option<()> {
        let Rules { when, mask, on_write, .. } = self.rules;
        let copies =
            saved.copied.is_none_or(|Bits64(copy)| when == When::Boot && copy & !mask == 0);
        let keeps = saved.kept.is_none() || on_write == Some(OnWrite::Keep);
        let own = self.own_mut(msr).filter(|_| copies && keeps)?;
        *own = Own { copied: saved.copied.or(own.copied), kept: saved.kept };
        Some(())
    }

    /// Makes the copies, as far as the host allows reading.
    fn copy(&mut self) -> Option<MsrIndex> {
        if self.rules.when != When::Boot {
            return None;
        }
        let mut refused = None;
        for (msr, own) in self.rules.msrs().zip(&mut self.own) {
            match self.rules.ask_host(msr) {
                Ok(value) => own.copied = Some(Bits64(value)),
                Err(Refused) => refused = refused.or(Some(msr)),
            }
        }
        refused
    }

    fn own_mut(&mut self, msr: MsrIndex) -> Option<&mut Own> {
        let place = self.place(msr)?;
        self.own.get_mut(place)
    }

    fn place(&self, msr: MsrIndex) -> Option<usize> {
        usize::try_from(msr.0.checked_sub(self.rules.range.first.0)?).ok()
    }
}
