//! What the thread of a vCPU tells the main loop without being asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::halt::Sign;

/// The exits and the sleep of one vCPU.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    exits: AtomicU64,
    asleep: AtomicBool,
    rip: AtomicU64,
}

impl Progress {
    /// Only the vCPU's own thread counts, so this needs no locked instruction.
    pub(crate) fn count_exit(&self) {
        self.exits.store(self.exits.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Where the vCPU sleeps, as [`halt::asleep`](crate::halt::asleep) found.
    pub(crate) fn note_asleep(&self, rip: Option<u64>) {
        self.rip.store(rip.unwrap_or_default(), Ordering::Relaxed);
        self.asleep.store(rip.is_some(), Ordering::Release);
    }

    /// What it has told so far.
    pub(crate) fn sign(&self) -> Sign {
        let asleep = self.asleep.load(Ordering::Acquire);
        Sign {
            exits: self.exits.load(Ordering::Relaxed),
            asleep: asleep.then(|| self.rip.load(Ordering::Relaxed)),
        }
    }
}
