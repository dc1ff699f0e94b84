//! Writes a recording while the guest runs: a thread takes what vCPUs put into the
//! recorder's queue and writes it to a file, or keeps the last of it in memory.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::line::{DroppedLine, EndLine, Line, StartLine, SwapLine};
use super::out::{Out, WrittenCounts};
use super::recorder::{Queued, Recorder, Shared};
use super::ring::{Ring, RingSink, Urgent};
use super::sink::{Sink, Stopped};

/// How long a line may wait in the writer's buffer.
const SOON: Duration = Duration::from_millis(200);

/// How long the end of a recording waits for a file that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A recording that is being written.
pub struct RecordingWriter {
    recorder: Recorder,
    /// Gives the end once all is written.
    end: Receiver<Option<Stopped>>,
}

/// What has become of a recording.
#[derive(Debug)]
pub struct RecordingEnd {
    /// Accesses that the file has taken.
    pub accesses: u64,
    /// Times that it has taken at which plugins' timers were due.
    pub wakes: u64,
    /// Accesses and wakes that are missing, for any reason.
    pub dropped: u64,
    /// Bytes that the file has taken.
    pub bytes: u64,
    /// Why the recording ended before the run.
    pub stopped: Option<Stopped>,
}

impl RecordingWriter {
    /// Begins a recording that is written to `out`, and ends before it has more
    /// than `limit` bytes. Nothing is written before plugins have started.
    ///
    /// # Errors
    /// What the system said, if it cannot start a thread.
    pub fn begin(out: impl Write + Send + 'static, limit: u64) -> io::Result<Self> {
        Self::into(move |written| Out::new(out, limit, written))
    }

    /// Begins a recording of which only the last lines are kept, in `size` bytes of
    /// memory, and not in a file: [`Ring::write_to`] writes them to one. `urgent` is told
    /// when something happened for which they are worth that. It is called by the thread
    /// that keeps the lines and must not wait for anything.
    ///
    /// # Errors
    /// What the system said, if it cannot start a thread.
    pub fn ring(
        size: usize,
        urgent: impl FnMut(Urgent) + Send + 'static,
    ) -> io::Result<(Self, Ring)> {
        let ring = Ring::of(size);
        let kept = ring.clone();
        let recording = Self::into(move |written| RingSink::new(kept, written, urgent))?;
        Ok((recording, ring))
    }

    fn into<S: Sink>(
        sink: impl FnOnce(Arc<WrittenCounts>) -> S + Send + 'static,
    ) -> io::Result<Self> {
        let written = Arc::new(WrittenCounts::default());
        let (recorder, queued) = Recorder::new(written.clone());
        let shared = Arc::clone(&recorder.0);
        let (ended, end) = channel();
        thread::Builder::new().name("recorder".into()).spawn(move || {
            let out = sink(written);
            let (before, total) = ((0, 0), (0, 0));
            let writer = Writer { shared, out, due: None, before, total, end: None };
            // Fails if `finish` has given up.
            let _ = ended.send(writer.run(&queued));
        })?;
        Ok(RecordingWriter { recorder, end })
    }

    /// Where accesses go.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits until everything is written, as long as the file takes something,
    /// and ends the recording. VCPUs may go on: what they give the recorder from here on
    /// is lost, and nothing waits for it.
    pub fn finish(self) -> RecordingEnd {
        let RecordingWriter { recorder: Recorder(shared), end } = self;
        let dropped = shared.dropped.swap(0, Relaxed);
        // Fails only if the thread has ended, which waiting for it shows.
        let _ = shared.queue.send(Queued::Finish(Instant::now(), dropped));
        let stopped = loop {
            let before = shared.written.bytes();
            match end.recv_timeout(PATIENCE) {
                Ok(stopped) => break stopped,
                Err(RecvTimeoutError::Timeout) if shared.written.bytes() > before => {}
                Err(RecvTimeoutError::Timeout) => break Some(Stopped::Stuck),
                Err(RecvTimeoutError::Disconnected) => {
                    let panicked = io::Error::other("the thread that writes it panicked");
                    break Some(Stopped::File(panicked));
                }
            }
        };
        let stuck = shared.given_up.load(Relaxed).then_some(Stopped::Stuck);
        let (accesses, wakes) = (shared.written.accesses(), shared.written.wakes());
        RecordingEnd {
            accesses,
            wakes,
            dropped: shared.seen.load(Relaxed).saturating_sub(accesses + wakes),
            bytes: shared.written.bytes(),
            stopped: stopped.or(stuck),
        }
    }
}

/// The thread at the other end of the queue.
struct Writer<S> {
    shared: Arc<Shared>,
    out: S,
    /// When the oldest line that waits in the buffer is to be in the file.
    due: Option<Instant>,
    /// Accesses and wakes, and drops, before this boot.
    before: (u64, u64),
    /// And until now.
    total: (u64, u64),
    /// The end of the boot, which waits for reports that fail after it.
    end: Option<EndLine>,
}

impl<S: Sink> Writer<S> {
    fn run(mut self, queue: &Receiver<Queued>) -> Option<Stopped> {
        loop {
            let queued = match self.due {
                Some(due) => queue.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match queued {
                Ok(Queued::Finish(at, dropped)) => {
                    self.finish(at, dropped);
                    break;
                }
                Ok(queued) => {
                    self.shared.waiting.fetch_sub(1, Relaxed);
                    self.take(queued);
                    self.due = self.due.or_else(|| Some(Instant::now() + SOON));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_end();
                    break;
                }
            }
            // Lines that come without a pause must not put it off.
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.out.flush();
                self.due = None;
            }
        }
        self.out.flush();
        self.out.stopped()
    }

    fn take(&mut self, queued: Queued) {
        self.write_end();
        match queued {
            Queued::Boot(boot) => {
                self.before = self.total;
                self.out.line(&Line::Boot(boot));
            }
            Queued::Start(at, log) => {
                self.shared.calls_waiting.fetch_sub(log.size(), Relaxed);
                let (t, cut) = (self.shared.time(at), log.cut);
                let calls = log.into_plugin_calls();
                self.out.line(&Line::Start(StartLine { t, calls, cut }));
            }
            Queued::Access(event, dropped) => {
                self.note_dropped(event.began, dropped);
                self.shared.calls_waiting.fetch_sub(event.calls.size(), Relaxed);
                let t = self.shared.time(event.began);
                self.counted(&Line::Access(event.into_line(t)));
            }
            Queued::Wake(event, dropped) => {
                self.note_dropped(event.began, dropped);
                self.shared.calls_waiting.fetch_sub(event.calls.size(), Relaxed);
                let t = self.shared.time(event.began);
                self.counted(&Line::Wake(event.into_line(t)));
            }
            Queued::Swap(at, swap, log, dropped) => {
                self.note_dropped(at, dropped);
                self.shared.calls_waiting.fetch_sub(log.size(), Relaxed);
                let (t, cut) = (self.shared.time(at), log.cut);
                let calls = log.into_plugin_calls();
                self.out.line(&Line::Swap(Box::new(SwapLine { t, calls, cut, ..*swap })));
            }
            Queued::End(at, dropped) => {
                self.note_dropped(at, dropped);
                let (lines, dropped) = (self.total.0 - self.before.0, self.total.1 - self.before.1);
                let (t, failed) = (self.shared.time(at), Vec::new());
                self.end = Some(EndLine { t, lines, dropped, failed });
            }
            Queued::Finish(..) => {}
        }
    }

    /// Writes the last line: of a recording that has reached its limit, how many
    /// lines it lacks.
    fn finish(&mut self, at: Instant, dropped: u64) {
        self.write_end();
        self.note_dropped(at, dropped);
        self.out.flush();
        let written = self.shared.written.accesses() + self.shared.written.wakes();
        let known = self.total.1;
        let lines = self.shared.seen.load(Relaxed).saturating_sub(written + known);
        if lines > 0 {
            self.out.last_line(&Line::Dropped(DroppedLine { t: self.shared.time(at), lines }));
        }
    }

    /// Writes the last line of a boot, once something follows it.
    fn write_end(&mut self) {
        if let Some(mut end) = self.end.take() {
            end.failed = self.shared.take_failed();
            self.out.line(&Line::End(end));
        }
    }

    fn note_dropped(&mut self, at: Instant, lines: u64) {
        if lines > 0
            && self.out.line(&Line::Dropped(DroppedLine { t: self.shared.time(at), lines }))
        {
            self.total.1 += lines;
        }
    }

    fn counted(&mut self, line: &Line) {
        self.total.0 += u64::from(self.out.line(line));
    }
}

#[cfg(test)]
mod tests;
