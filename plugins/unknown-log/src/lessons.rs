//! The accesses of a guest in learning mode.

use alloc::collections::BTreeMap;

use wasmsr_sdk::{Access, MsrIndex, Reason};

/// Most MSRs that are remembered. Their profile lines fit into a report.
pub(crate) const MOST: usize = 256;

/// One MSR's accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lesson {
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    /// The first and the last of the values written.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Whether a read gave a value other than 0, which only an earlier write can
    /// cause.
    pub(crate) read_back: bool,
    /// Whether KVM knew the MSR.
    pub(crate) known: bool,
}

impl Lesson {
    /// Whether any run of accesses can have led to this.
    fn is_possible(&self) -> bool {
        let written = self.writes > 0 || (self.first == 0 && self.last == 0);
        let read_back = !self.read_back || (self.reads > 0 && self.writes > 0);
        let one = self.writes != 1 || self.first == self.last;
        self.reads.max(self.writes) > 0 && written && read_back && one
    }
}

/// The lessons so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lessons {
    seen: BTreeMap<MsrIndex, Lesson>,
    /// Accesses to MSRs for which there was no room.
    beyond: u64,
    /// Writes for whose value there was no room.
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

    /// The lesson of each MSR, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MsrIndex, Lesson)> {
        self.seen.iter().map(|(&msr, &lesson)| (msr, lesson))
    }

    pub(crate) fn beyond(&self) -> u64 {
        self.beyond
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Lessons from the results of [`Lessons::iter`], [`Lessons::beyond`] and
    /// [`Lessons::dropped`]; `None` if no guest can have led to them.
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
