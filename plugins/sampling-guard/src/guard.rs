//! One guarded MSR: how often it was written, and whether the next write may
//! pass.

use alloc::collections::VecDeque;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::Bits64;

/// The operator's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// This many writes pass; `None` for all.
    pub(crate) writes: Option<u64>,
    /// Whether they are counted anew in each window.
    pub(crate) in_window: bool,
    /// Length of the windows over which rates are measured, in seconds.
    pub(crate) window_s: u32,
    /// Most values that are remembered.
    pub(crate) history: usize,
}

/// The counts of one MSR's writes since the guest started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guard {
    limit: Limit,
    writes: u64,
    faults: u64,
    /// When the present window began. It begins with a write, and the next one
    /// with the first write after its end.
    window_ns: u64,
    in_window: u64,
    fastest: u64,
    /// The latest values, oldest first.
    values: VecDeque<u64>,
}

/// The decision about a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ruling {
    Passes,
    Faults,
}

/// A guard's saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    writes: u64,
    faults: u64,
    window_s: u32,
    window_ns: u64,
    in_window: u64,
    fastest: u64,
    values: VecDeque<Bits64>,
}

impl Guard {
    pub(crate) fn new(limit: Limit) -> Self {
        Guard {
            limit,
            writes: 0,
            faults: 0,
            window_ns: 0,
            in_window: 0,
            fastest: 0,
            values: VecDeque::with_capacity(limit.history),
        }
    }

    /// Counts a write at this time of the monotonic clock.
    pub(crate) fn write(&mut self, value: u64, now_ns: u64) -> Ruling {
        self.writes = self.writes.saturating_add(1);
        let length = u64::from(self.limit.window_s) * 1_000_000_000;
        // A clock that went back, as it may when a VM is restored, ends the
        // window too.
        let age = now_ns.checked_sub(self.window_ns);
        if self.in_window == 0 || age.is_none_or(|age| age >= length) {
            self.window_ns = now_ns;
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(1);
        self.fastest = self.fastest.max(self.in_window);
        self.remember(value);

        let counted = if self.limit.in_window { self.in_window } else { self.writes };
        if self.limit.writes.is_none_or(|most| counted <= most) {
            Ruling::Passes
        } else {
            self.faults = self.faults.saturating_add(1);
            Ruling::Faults
        }
    }

    pub(crate) fn limit(&self) -> Limit {
        self.limit
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    pub(crate) fn faults(&self) -> u64 {
        self.faults
    }

    /// Most writes in one window.
    pub(crate) fn fastest(&self) -> u64 {
        self.fastest
    }

    /// The latest values, newest first.
    pub(crate) fn values(&self) -> impl Iterator<Item = u64> {
        self.values.iter().rev().copied()
    }

    pub(crate) fn reset(&mut self) {
        *self = Guard::new(self.limit);
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept {
            writes: self.writes,
            faults: self.faults,
            window_s: self.limit.window_s,
            window_ns: self.window_ns,
            in_window: self.in_window,
            fastest: self.fastest,
            values: self.values.iter().copied().map(Bits64).collect(),
        }
    }

    /// Restores a guard's saved state, whatever its limit was: `None` if no
    /// guest can have led to it.
    pub(crate) fn take_over(&mut self, kept: Kept) -> Option<()> {
        let values = u64::try_from(kept.values.len()).ok()?;
        let counts = kept.faults <= kept.writes
            && kept.in_window <= kept.fastest
            && kept.fastest <= kept.writes
            && values <= kept.writes;
        let started = (kept.writes > 0) == (kept.in_window > 0);
        if !(counts && started) {
            return None;
        }
        *self = Guard::new(self.limit);
        self.writes = kept.writes;
        self.faults = kept.faults;
        // Windows of another length cannot be compared.
        if kept.window_s == self.limit.window_s {
            self.window_ns = kept.window_ns;
            self.in_window = kept.in_window;
            self.fastest = kept.fastest;
        }
        kept.values.into_iter().for_each(|Bits64(value)| self.remember(value));
        Some(())
    }

    fn remember(&mut self, value: u64) {
        self.values.push_back(value);
        if self.values.len() > self.limit.history {
            self.values.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
