//! Counts a guest's writes to chosen MSRs, logs them, and faults those beyond a
//! limit. It answers nothing itself: writes that may pass go to KVM or to the
//! next plugin.
#![no_std]

extern crate alloc;

mod config;
mod entry;
mod guard;
mod lines;
mod pace;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{
    Access, Error, MsrIndex, Otherwise, Persist, Plugin, Report, Reset, Saved, Setup, export, time,
};

use guard::{Guard, Kept, Ruling};
use pace::Turn;

struct SamplingGuard {
    guarded: BTreeMap<MsrIndex, Guarded>,
    /// Seconds between two lines of one kind on one MSR.
    interval_s: u32,
}

/// An MSR with its guard.
struct Guarded {
    /// For people.
    name: Option<String>,
    guard: Guard,
    then: Then,
    told: Turn,
    warned: Turn,
}

/// Where a write that passes goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Then {
    #[default]
    Kernel,
    Pass,
}

impl Plugin for SamplingGuard {
    fn new(setup: &Setup) -> Result<Self, Error> {
        config::read(setup)
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        // The host passes on only the MSRs that the configuration lists.
        let guarded = self.guarded.get_mut(&access.index).ok_or(Otherwise::Pass)?;
        let now = time::monotonic_ns();
        match guarded.guard.write(value, now) {
            Ruling::Passes => {
                if guarded.told.comes(now, self.interval_s) {
                    lines::tell(access, value, guarded);
                }
                Err(match guarded.then {
                    Then::Kernel => Otherwise::Kernel,
                    Then::Pass => Otherwise::Pass,
                })
            }
            Ruling::Faults => {
                if guarded.warned.comes(now, self.interval_s) {
                    lines::warn(access, value, guarded);
                }
                Err(Otherwise::Fault)
            }
        }
    }
}

impl Reset for SamplingGuard {
    /// A limit is for one boot. The interval between lines continues, or a guest
    /// could get more lines by resets.
    fn reset(&mut self) {
        self.guarded.values_mut().for_each(|guarded| guarded.guard.reset());
    }
}

impl Persist for SamplingGuard {
    fn save(&self) -> impl Serialize {
        let kept = self.guarded.iter().map(|(&msr, guarded)| (msr, guarded.guard.keep()));
        kept.collect::<Vec<_>>()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let kept: Vec<(MsrIndex, Kept)> = saved.state()?;
        for (msr, kept) in kept {
            // An MSR that is no longer guarded has no limit.
            let Some(guarded) = self.guarded.get_mut(&msr) else { continue };
            guarded.guard.take_over(kept).ok_or_else(|| {
                Error::new(format_args!(
                    "the saved state is damaged: no writes can have led to the counts of {msr}"
                ))
            })?;
        }
        Ok(())
    }
}

impl Report for SamplingGuard {
    fn report(&self) -> String {
        lines::table(self)
    }
}

export!(SamplingGuard: Reset, Persist, Report);
