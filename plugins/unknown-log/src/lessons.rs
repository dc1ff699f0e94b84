//! What a guest asked for while it was learned from.

use alloc::collections::BTreeMap;

use wasmsr_sdk::{Access, MsrIndex, Reason};

/// Most MSRs that are remembered. What they make in profile lines fits into a
/// report.
pub(crate) const MOST: usize = 256;

/// One MSR's accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lesson {
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    /// Of the values written, the first and the last.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether a read gave something else than 0, which only a write before it
    /// can bring about.
    pub(crate) read_back: bool,
    /// Whether KVM knew the MSR.
    pub(crate) known: bool,
}

impl Lesson {
    /// Whether any run of accesses could have made this.
    fn is_possible(&self) -> bool {
        let written = self.writes > 0 || (self.first == 0 && self.last == 0);
        let read_back = !self.read_back || (self.reads > 0 && self.writes > 0);
        let one = self.writes != 1 || self.first == self.last;
        self.reads.max(self.writes) > 0 && written && read_back && one
    }
}

/// What was learned so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lessons {
    seen: BTreeMap<MsrIndex, Lesson>,
    /// Accesses to MSRs that there was no room to remember.
    beyond: u64,
    /// Writes whose value there was no room to store.
    dropped: u64,
}

impl Lessons {
    pub(crate) fn read(&mut self, access: Access, value: u64) {
        if let Some(lesson) = self.lesson(access) {
            lesson.reads = lesson.reads.saturating_add(1);
            lesson.read_back |= value != 0;
        }
    }

    pub(crate) fn write(&mut self, access: Access, value: u64) {
        if let Some(lesson) = self.lesson(access) {
            if lesson.writes == 0 {
                lesson.first = value;
            }
            lesson.last = value;
            lesson.writes = lesson.writes.saturating_add(1);
        }
    }

    pub(crate) fn note_dropped(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// What each MSR taught, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MsrIndex, Lesson)> {
        self.seen.iter().map(|(&msr, &lesson)| (msr, lesson))
    }

    pub(crate) fn beyond(&self) -> u64 {
        self.beyond
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What [`Lessons::iter`], [`Lessons::beyond`] and [`Lessons::dropped`] gave
    /// of other lessons; `None` if no guest can have taught them.
    pub(crate) fn from_parts(
        parts: impl IntoIterator<Item = (MsrIndex, Lesson)>,
        beyond: u64,
        dropped: u64,
    ) -> Option<Self> {
        let mut seen = BTreeMap::new();
        for (msr, lesson) in parts {
            let new = lesson.is_possible() && seen.len() < MOST;
            if !new || seen.insert(msr, lesson).is_some() {
                return None;
            }
        }
        let full = beyond == 0 || seen.len() == MOST;
        full.then_some(Lessons { seen, beyond, dropped })
    }

    fn lesson(&mut self, access: Access) -> Option<&mut Lesson> {
        if self.seen.len() >= MOST && !self.seen.contains_key(&access.index) {
            self.beyond = self.beyond.saturating_add(1);
            return None;
        }
        let lesson = self.seen.entry(access.index).or_default();
        lesson.known |= access.reason == Reason::Invalid;
        Some(lesson)
    }
}
