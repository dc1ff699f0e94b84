//! The last lines of a recording, in memory. Older ones fall out, but for those without
//! which the rest could not be read: those of the boot, its start, and the last swap.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::line::{DroppedLine, Line, SwapCause};
use super::out::WrittenCounts;
use super::sink::{Sink, Stopped};

/// The last lines of a recording that is being made.
#[derive(Clone)]
pub struct Ring(Arc<Mutex<Kept>>);

/// Something for which the kept lines are worth a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgent {
    /// A plugin has failed, for the first time in this recording.
    Failure,
    /// A set failed its probation, and the old one came back.
    Return,
}

/// What was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RingCounts {
    /// Accesses.
    pub accesses: u64,
    /// Times at which plugins' timers were due.
    pub wakes: u64,
    /// Lines of either kind that have fallen out since the boot that comes first.
    pub fallen: u64,
}

/// The lines, oldest first, with what has to stay of those that fell out.
struct Kept {
    size: usize,
    used: usize,
    head: Head,
    lines: VecDeque<KeptLine>,
}

/// What is in front of the lines.
#[derive(Clone, Default)]
struct Head {
    boot: Option<KeptLine>,
    start: Option<KeptLine>,
    /// What fell out before `swap`.
    before: Fallen,
    swap: Option<KeptLine>,
    /// What fell out after it, or after the start if there is no swap.
    after: Fallen,
}

#[derive(Clone, Copy, Default)]
struct Fallen {
    lines: u64,
    /// Whether there was a swap among them.
    swapped: bool,
    /// When the last of them came.
    t: u64,
}

/// A line as it is written. The text is shared with those who write it to a file, so
/// that the ring goes on meanwhile.
#[derive(Clone)]
struct KeptLine {
    text: Arc<[u8]>,
    t: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Boot,
    Start,
    Access,
    Wake,
    Swap,
    Dropped(u64),
    End,
}

impl Ring {
    pub(super) fn of(size: usize) -> Self {
        let (head, lines) = (Head::default(), VecDeque::new());
        Ring(Arc::new(Mutex::new(Kept { size, used: 0, head, lines })))
    }

    /// Writes what is kept now, as a recording. The ring goes on meanwhile, however long
    /// that takes: until it is written, it and this hold up to twice its size.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<RingCounts> {
        let (head, lines) = {
            let kept = self.kept();
            (kept.head.clone(), kept.lines.iter().cloned().collect::<Vec<_>>())
        };
        let fallen = head.before.lines.saturating_add(head.after.lines);
        let mut counts = RingCounts { fallen, ..RingCounts::default() };
        let before = head.before.line();
        let after = head.after.line();
        let front = [head.boot, head.start, before, head.swap, after];
        for line in front.into_iter().flatten().chain(lines) {
            out.write_all(&line.text)?;
            match line.kind {
                Kind::Access => counts.accesses += 1,
                Kind::Wake => counts.wakes += 1,
                _ => {}
            }
        }
        out.flush()?;
        Ok(counts)
    }

    /// Whether nothing has been recorded.
    pub fn is_empty(&self) -> bool {
        let kept = self.kept();
        kept.head.boot.is_none() && kept.lines.is_empty()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, line: KeptLine) {
        self.used += line.size();
        self.lines.push_back(line);
        while self.used > self.size
            && self.lines.len() > 1
            && let Some(oldest) = self.lines.pop_front()
        {
            self.fall(oldest);
        }
    }

    /// Takes the oldest line out.
    fn fall(&mut self, line: KeptLine) {
        let head = &mut self.head;
        let gone = match line.kind {
            // Nothing before a boot is needed to read what follows it.
            Kind::Boot => {
                let old = mem::replace(head, Head { boot: Some(line), ..Head::default() });
                [old.boot, old.start, old.swap]
            }
            Kind::Start => [head.start.replace(line), None, None],
            Kind::Swap => {
                let after = mem::take(&mut head.after);
                let old = head.swap.replace(line);
                head.before.add(after.lines, after.t);
                head.before.swapped |= old.is_some();
                [old, None, None]
            }
            Kind::Access | Kind::Wake => {
                head.after.add(1, line.t);
                [Some(line), None, None]
            }
            Kind::Dropped(lines) => {
                head.after.add(lines, line.t);
                [Some(line), None, None]
            }
            Kind::End => [Some(line), None, None],
        };
        let freed = gone.iter().flatten().map(KeptLine::size).sum();
        self.used = self.used.saturating_sub(freed);
    }
}

impl Fallen {
    fn add(&mut self, lines: u64, t: u64) {
        self.lines = self.lines.saturating_add(lines);
        self.t = self.t.max(t);
    }

    /// The line that says so, if something fell out.
    fn line(self) -> Option<KeptLine> {
        let Fallen { lines, swapped, t } = self;
        (lines > 0 || swapped)
            .then_some(DroppedLine { t, lines })
            .and_then(|dropped| KeptLine::of(&Line::Dropped(dropped)))
    }
}

impl KeptLine {
    fn of(line: &Line) -> Option<Self> {
        let mut text = serde_json::to_vec(line).ok()?;
        text.push(b'\n');
        let (t, kind) = match line {
            Line::Boot(boot) => (boot.t, Kind::Boot),
            Line::Start(start) => (start.t, Kind::Start),
            Line::Access(access) => (access.t, Kind::Access),
            Line::Wake(wake) => (wake.t, Kind::Wake),
            Line::Swap(swap) => (swap.t, Kind::Swap),
            Line::Dropped(dropped) => (dropped.t, Kind::Dropped(dropped.lines)),
            Line::End(end) => (end.t, Kind::End),
        };
        Some(KeptLine { text: text.into(), t, kind })
    }

    /// Bytes of memory that it takes, with what is counted beside its text.
    fn size(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        size_of::<KeptLine>() + COUNTS + self.text.len()
    }
}

/// Puts lines into a ring.
pub(super) struct RingSink<F> {
    ring: Ring,
    kept: Arc<WrittenCounts>,
    urgent: F,
    failed: bool,
}

impl<F: FnMut(Urgent)> RingSink<F> {
    pub(super) fn new(ring: Ring, kept: Arc<WrittenCounts>, urgent: F) -> Self {
        RingSink { ring, kept, urgent, failed: false }
    }

    fn told(&mut self, line: &Line) {
        let failed = match line {
            Line::Access(access) => access.failed,
            Line::Wake(wake) => !wake.failed.is_empty(),
            Line::End(end) => !end.failed.is_empty(),
            Line::Swap(swap) if swap.cause == SwapCause::Return => {
                (self.urgent)(Urgent::Return);
                false
            }
            _ => false,
        };
        if failed && !mem::replace(&mut self.failed, true) {
            (self.urgent)(Urgent::Failure);
        }
    }
}

impl<F: FnMut(Urgent)> Sink for RingSink<F> {
    fn line(&mut self, line: &Line) -> bool {
        if let Some(kept) = KeptLine::of(line) {
            self.kept.keep(line, kept.text.len());
            self.ring.kept().push(kept);
        }
        self.told(line);
        true
    }

    fn last_line(&mut self, line: &Line) {
        self.line(line);
    }

    fn flush(&mut self) {}

    fn stopped(self) -> Option<Stopped> {
        None
    }
}

#[cfg(test)]
mod tests;
