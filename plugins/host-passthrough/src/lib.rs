//! MSRs of the host's CPUs: read live or copied at boot, never written.
#![no_std]

extern crate alloc;

mod config;
mod entry;

use alloc::vec::Vec;

use serde::Serialize;
use wasmsr_sdk::{
    Access, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, VcpuId, export, log,
};

use entry::{Entry, Own, Rules, When};

struct HostPassthrough {
    /// Lowest MSR first; no MSR is in two.
    entries: Vec<Entry>,
}

impl HostPassthrough {
    fn find(&mut self, msr: MsrIndex) -> Option<&mut Entry> {
        let after = self.entries.partition_point(|entry| entry.rules.range.first <= msr);
        let entry = self.entries.get_mut(after.checked_sub(1)?)?;
        entry.rules.range.contains(msr).then_some(entry)
    }
}

impl Plugin for HostPassthrough {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for rules in config::read(setup)? {
            entries.push(Entry::new(rules).map_err(|msr| {
                Error::in_config(
                    "msrs",
                    format_args!("MSR {msr} of the host cannot be copied; {REMEDY}, or remove it"),
                )
            })?);
            // The other vCPUs would only repeat it.
            if setup.vcpu() == Some(VcpuId(0)) {
                warn_if_refused(&rules);
            }
        }
        Ok(HostPassthrough { entries })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        self.find(access.index).ok_or(Otherwise::Pass)?.read(access.index)
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        self.find(access.index).ok_or(Otherwise::Pass)?.write(access.index, value)
    }
}

const REMEDY: &str = "grant it with `host-msr:RANGE`, and load the host's kernel module `msr`";

/// A range may contain MSRs that the host lacks, so this is not an error.
fn warn_if_refused(rules: &Rules) {
    let Rules { range, when, .. } = *rules;
    let refused = |msr: &MsrIndex| rules.ask_host(*msr).is_err();
    if when == When::Read
        && let Some(msr) = [range.first, range.last].iter().find(|msr| refused(msr))
    {
        log::warn!("MSR {msr} of the host cannot be read, so guests get #GP; {REMEDY}");
    }
}

impl Reset for HostPassthrough {
    fn reset(&mut self) {
        for msr in self.entries.iter_mut().filter_map(Entry::reset) {
            log::error!("MSR {msr} of the host cannot be copied any more; an earlier copy stays");
        }
    }
}

impl Persist for HostPassthrough {
    fn save(&self) -> impl Serialize {
        self.entries.iter().flat_map(Entry::own).collect::<Vec<_>>()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let own: Vec<(MsrIndex, Own)> = saved.state()?;
        for (msr, own) in own {
            let taken = self.find(msr).and_then(|entry| entry.take_over(msr, own));
            taken.ok_or_else(|| {
                Error::new(format_args!("{msr} is no longer configured to hold its value"))
            })?;
        }
        Ok(())
    }
}

export!(HostPassthrough: Reset, Persist);

#[cfg(test)]
mod tests;
