//! What one access costs: a fresh instance gets it again and again. Every outcome is
//! checked, since a plugin may fail at the hundredth access.

use std::sync::Arc;

use anyhow::Context;
use tracing::subscriber::{NoSubscriber, with_default};
use wasmsr_engine::{Engine, Metrics, VcpuDispatch};
use wasmsr_interface::{Direction, Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, Reason};

use super::measure::{self, Outcomes, Pair};
use crate::terminal::words::{FAILED, PASS};

/// Accesses to a fresh plugin before its fuel is read: the first one may be special.
const ACCESSES_BEFORE_FUEL: u32 = 16;

/// An access that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deed {
    pub(super) index: MsrIndex,
    pub(super) direction: Direction,
    pub(super) reason: Reason,
}

/// What was measured.
pub(super) struct Cost {
    /// How all accesses ended; "mixed" if they did not all end alike.
    pub(super) answer: &'static str,
    /// Accesses at which the plugin failed. With any, nothing is timed.
    pub(super) failures: u64,
    pub(super) time: Option<Pair>,
    pub(super) fuel: Option<u64>,
    /// Bytes of the largest instance after all accesses.
    pub(super) memory: u64,
}

/// Makes fresh instances, and measures them.
pub(super) struct Bench<'a> {
    pub(super) engine: &'a Engine,
    pub(super) host: Arc<dyn Host>,
}

/// A fresh instance with its counters.
struct Fresh {
    vcpu: VcpuDispatch,
    metrics: Metrics,
}

impl Bench<'_> {
    fn fresh(&self) -> anyhow::Result<Fresh> {
        let mut started = self.engine.start(&self.host, 1)?;
        let vcpu = started.vcpus.pop().context("no vCPU was started")?;
        Ok(Fresh { vcpu, metrics: started.metrics })
    }

    /// Bytes of the largest instance before the first access. This is the only start
    /// whose log lines are shown.
    pub(super) fn memory_at_start(&self) -> anyhow::Result<u64> {
        Ok(self.fresh()?.memory())
    }

    /// The median time to instantiate the plugin, in nanoseconds.
    pub(super) fn start_time(&self) -> anyhow::Result<f64> {
        quietly(|| measure::time(51, || self.fresh()))
    }

    /// Measures an access.
    pub(super) fn cost(&self, deed: Deed) -> anyhow::Result<Cost> {
        let (access, cost) = quietly(|| self.measured(deed))?;
        if cost.failures > 0 {
            self.show_failure(access)?;
        }
        Ok(cost)
    }

    fn measured(&self, deed: Deed) -> anyhow::Result<(MsrAccess, Cost)> {
        let Deed { index, direction, reason } = deed;
        let access = |op| MsrAccess { index, op, reason };
        let access = access(match direction {
            Direction::Read => MsrOp::Read,
            // A plugin is likely to accept the value that it gives to reads.
            Direction::Write => match self.fresh()?.vcpu.answer(access(MsrOp::Read)) {
                Outcome::Value(value) => MsrOp::Write(value),
                _ => MsrOp::Write(0),
            },
        });
        let mut fresh = self.fresh()?;
        let mut outcomes = Outcomes::default();
        for _ in 0..ACCESSES_BEFORE_FUEL {
            outcomes.note(&fresh.vcpu.answer(access));
        }
        let mut fuel = fresh.vcpu.fuel_used(index, direction);
        let sound = fresh.failures() == 0;
        let mut time = sound.then(|| measure::access(&mut fresh.vcpu, access, &mut outcomes));
        let failures = fresh.failures();
        if failures > 0 {
            (time, fuel) = (None, None);
        }
        let answer = fresh.answer(outcomes);
        Ok((access, Cost { answer, failures, time, fuel, memory: fresh.memory() }))
    }

    /// Repeats an access until the plugin fails, so that the log says why.
    fn show_failure(&self, access: MsrAccess) -> anyhow::Result<()> {
        /// More accesses than are measured.
        const MOST: u32 = 1 << 21;
        let mut fresh = self.fresh()?;
        // Counters are read rarely enough to cost little, and early for a plugin that
        // fails at once.
        let (mut done, mut more) = (0, 1);
        while done < MOST && fresh.failures() == 0 {
            for _ in 0..more {
                // The counters have it.
                let _ = fresh.vcpu.answer(access);
            }
            done += more;
            more = (more * 2).min(1 << 12);
        }
        Ok(())
    }
}

impl Fresh {
    fn memory(&mut self) -> u64 {
        self.vcpu.instances().iter().map(|instance| instance.memory).max().unwrap_or(0)
    }

    fn failures(&self) -> u64 {
        self.metrics.msrs().iter().map(|row| row.failures).sum()
    }

    fn answer(&self, outcomes: Outcomes) -> &'static str {
        let rows = self.metrics.msrs();
        let all: u64 = rows.iter().map(wasmsr_engine::MsrCounts::accesses).sum();
        let left = rows.iter().filter(|row| row.plugin.is_none());
        let passed: u64 = left.map(wasmsr_engine::MsrCounts::accesses).sum();
        if self.failures() > 0 {
            FAILED
        } else if passed == all {
            PASS
        } else {
            outcomes.only().filter(|_| passed == 0).unwrap_or("mixed")
        }
    }
}

/// Keeps the log lines of hundreds of instances out of the log.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    with_default(NoSubscriber::default(), work)
}
