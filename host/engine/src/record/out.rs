//! Lines on their way into a recording's file: whole ones, up to a limit, and
//! counted once the file has taken them.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::line::Line;
use super::sink::{Sink, Stopped};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 18;

/// What a file has taken, for other threads to read.
#[derive(Default)]
pub(super) struct WrittenCounts {
    bytes: AtomicU64,
    accesses: AtomicU64,
    wakes: AtomicU64,
}

impl WrittenCounts {
    /// Counts a line that is kept, with its length.
    pub(super) fn keep(&self, line: &Line, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if let Some(counted) = Counted::of(line) {
            self.count(counted);
        }
    }

    fn count(&self, line: Counted) {
        let tally = match line {
            Counted::Access => &self.accesses,
            Counted::Wake => &self.wakes,
        };
        tally.fetch_add(1, Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(super) fn accesses(&self) -> u64 {
        self.accesses.load(Relaxed)
    }

    pub(super) fn wakes(&self) -> u64 {
        self.wakes.load(Relaxed)
    }
}

/// A file with the lines that it has not taken yet.
pub(super) struct Out<W> {
    file: W,
    /// Bytes that the recording may still have.
    room: u64,
    /// More if the first line alone is longer.
    limit: u64,
    buffer: Vec<u8>,
    /// Where lines in the buffer end that are counted.
    ends: Vec<(usize, Counted)>,
    taken: Arc<WrittenCounts>,
    stopped: Option<Stopped>,
}

#[derive(Clone, Copy)]
enum Counted {
    Access,
    Wake,
}

impl Counted {
    fn of(line: &Line) -> Option<Self> {
        match line {
            Line::Access(_) => Some(Counted::Access),
            Line::Wake(_) => Some(Counted::Wake),
            _ => None,
        }
    }
}

impl<W: Write> Out<W> {
    pub(super) fn new(file: W, limit: u64, taken: Arc<WrittenCounts>) -> Self {
        let (buffer, ends) = (Vec::new(), Vec::new());
        Out { file, room: limit, limit, buffer, ends, taken, stopped: None }
    }

    fn stop(&mut self, why: Stopped) {
        tracing::error!("the recording ends here, the run goes on: {why}");
        self.stopped = Some(why);
    }

    /// Writes the buffer, and says how much of it the file has taken.
    fn write(&mut self) -> (usize, io::Result<()>) {
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => {
                    done += more;
                    self.taken.bytes.fetch_add(more as u64, Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (done, Err(error)),
            }
        }
        (done, self.file.flush())
    }
}

impl<W: Write> Sink for Out<W> {
    fn line(&mut self, line: &Line) -> bool {
        if self.stopped.is_some() {
            return false;
        }
        let start = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
        let length = (self.buffer.len() - start) as u64;
        let left = match self.room.checked_sub(length) {
            // Without its first line the file would not be a recording, and the next run
            // would refuse it.
            None if start == 0 && self.taken.bytes() == 0 => Some(0),
            left => left,
        };
        let fits = match (written, left) {
            (Ok(()), Some(left)) => {
                self.room = left;
                Ok(())
            }
            (Ok(()), None) => Err(Stopped::Limit(self.limit)),
            (Err(error), _) => Err(Stopped::File(error.into())),
        };
        if let Err(why) = fits {
            // Lines before it are whole.
            self.buffer.truncate(start);
            self.stop(why);
            return false;
        }
        self.ends.extend(Counted::of(line).map(|counted| (self.buffer.len(), counted)));
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
        self.stopped.is_none()
    }

    fn last_line(&mut self, line: &Line) {
        if let Some(Stopped::Limit(_)) = self.stopped {
            let stopped = self.stopped.take();
            self.room = u64::MAX;
            self.line(line);
            self.flush();
            self.stopped = self.stopped.take().or(stopped);
        }
    }

    fn flush(&mut self) {
        if let Some(Stopped::File(_)) = self.stopped {
            return;
        }
        let (done, written) = self.write();
        for (_, counted) in self.ends.iter().filter(|(end, _)| *end <= done) {
            self.taken.count(*counted);
        }
        self.buffer.clear();
        self.ends.clear();
        if let Err(error) = written {
            self.stop(Stopped::File(error));
        }
    }

    fn stopped(self) -> Option<Stopped> {
        self.stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::line::EndLine;

    #[test]
    fn the_first_line_is_whole_whatever_the_limit() {
        for limit in [0, 1, 10] {
            let taken = Arc::new(WrittenCounts::default());
            let mut out = Out::new(Vec::new(), limit, taken);
            let line = Line::End(EndLine { t: 1, lines: 0, dropped: 0, failed: Vec::new() });
            assert!(out.line(&line), "{limit}");
            assert!(!out.line(&line), "{limit}");
            out.flush();
            let text = String::from_utf8(out.file.clone()).unwrap();
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(matches!(out.stopped(), Some(Stopped::Limit(_))));
        }
    }
}
