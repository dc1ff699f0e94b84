//! Writes a recording while the guest runs: vCPUs put what they answered into
//! a bounded queue, and a thread writes it out. A vCPU never waits for the
//! file: what finds no room is dropped, counted, and the recording says where.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::hex::Hex;
use super::line::{Access, Boot, BootPlugin, Dropped, End, Ended, FORMAT, Line, Op, Start, Wake};
use super::tape::{Piece, TapedCall, plugin_calls};
use crate::msr::{MsrAccess, MsrOp, Outcome, VcpuId};

/// Lines that may wait to be written.
const ROOM: usize = 1 << 16;

/// Bytes of host calls that may wait with them.
const ROOM_FOR_CALLS: usize = 64 << 20;

/// How long a line may wait in the writer's buffer.
const SOON: Duration = Duration::from_millis(200);

/// A recording that is being written.
pub struct Recording {
    recorder: Recorder,
    writer: JoinHandle<RecordingEnd>,
}

/// Takes what the plugins of one boot after another answer; see
/// [`Engine::start_recorded`](crate::Engine::start_recorded).
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

/// What has become of a recording.
#[derive(Debug)]
pub struct RecordingEnd {
    /// Accesses and wakes in the file.
    pub lines: u64,
    /// Those that are missing: the queue was full, or the file took no more.
    pub dropped: u64,
    /// Why the file took no more.
    pub error: Option<io::Error>,
}

struct Shared {
    queue: SyncSender<Queued>,
    began: Instant,
    boots: AtomicU64,
    /// Dropped since a line last had room.
    dropped: AtomicU64,
    calls_waiting: AtomicUsize,
}

/// An access with its answer, as its vCPU leaves it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) vcpu: VcpuId,
    pub(crate) access: MsrAccess,
    pub(crate) outcome: Outcome,
    /// KVM's value, for an access that it answered.
    pub(crate) kernel: Option<u64>,
    pub(crate) plugin: Option<Arc<str>>,
    pub(crate) failed: bool,
    pub(crate) calls: Piece,
}

/// Timers that were served.
#[derive(Debug)]
pub(crate) struct Woken {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) vcpu: VcpuId,
    pub(crate) calls: Piece,
}

enum Queued {
    Boot(Box<Boot>),
    Start(Instant, Piece),
    Answered(Box<Answered>, u64),
    Woken(Box<Woken>, u64),
    End(Instant, u64),
    Finish(u64),
}

impl Recording {
    /// Begins a recording that is written to `out`.
    ///
    /// # Errors
    /// What the system said, if it gives no thread.
    pub fn begin(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(ROOM);
        let began = Instant::now();
        let recorder = Recorder(Arc::new(Shared {
            queue,
            began,
            boots: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            calls_waiting: AtomicUsize::new(0),
        }));
        let shared = Arc::clone(&recorder.0);
        let writer = thread::Builder::new().name("recorder".into()).spawn(move || {
            let file = BufWriter::with_capacity(1 << 18, out);
            let end = RecordingEnd { lines: 0, dropped: 0, error: None };
            Writer { shared, file, end, boot: (0, 0) }.run(&lines)
        })?;
        Ok(Recording { recorder, writer })
    }

    /// Where accesses go.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits until everything is written, and ends the recording.
    pub fn finish(self) -> RecordingEnd {
        let Recording { recorder, writer } = self;
        let dropped = recorder.0.dropped.swap(0, Relaxed);
        // Fails only if the writer is gone, which joining it tells.
        let _ = recorder.0.queue.send(Queued::Finish(dropped));
        writer.join().unwrap_or_else(|_| RecordingEnd {
            lines: 0,
            dropped,
            error: Some(io::Error::other("the thread that writes it panicked")),
        })
    }
}

impl Recorder {
    /// Says what boots. May wait for the file: no vCPU runs yet.
    pub(crate) fn boot(&self, mut boot: Boot) {
        boot.t = since(self.0.began, Instant::now());
        boot.boot = self.0.boots.fetch_add(1, Relaxed) + 1;
        let _ = self.0.queue.send(Queued::Boot(Box::new(boot)));
    }

    /// Says that the plugins have started. May wait for the file.
    pub(crate) fn start(&self, calls: Piece) {
        let _ = self.0.queue.send(Queued::Start(Instant::now(), calls));
    }

    /// Says that no vCPU runs any more. May wait for the file.
    pub(crate) fn end(&self) {
        let dropped = self.0.dropped.swap(0, Relaxed);
        let _ = self.0.queue.send(Queued::End(Instant::now(), dropped));
    }

    pub(crate) fn answered(&self, answered: Box<Answered>) {
        let size = size_of_calls(&answered.calls);
        self.offer(size, |dropped| Queued::Answered(answered, dropped));
    }

    pub(crate) fn woken(&self, woken: Box<Woken>) {
        let size = size_of_calls(&woken.calls);
        self.offer(size, |dropped| Queued::Woken(woken, dropped));
    }

    /// Queues a line if there is room for it and its calls.
    fn offer(&self, size: usize, line: impl FnOnce(u64) -> Queued) {
        let shared = &*self.0;
        let waiting = shared.calls_waiting.fetch_add(size, Relaxed);
        let dropped = shared.dropped.swap(0, Relaxed);
        let fits = waiting.saturating_add(size) <= ROOM_FOR_CALLS;
        if !fits || shared.queue.try_send(line(dropped)).is_err() {
            shared.calls_waiting.fetch_sub(size, Relaxed);
            shared.dropped.fetch_add(dropped + 1, Relaxed);
        }
    }
}

fn size_of_calls(piece: &Piece) -> usize {
    piece.calls.iter().map(|taped| size_of::<TapedCall>() + taped.call.size()).sum()
}

/// The thread at the other end of the queue.
struct Writer<W: Write> {
    shared: Arc<Shared>,
    file: BufWriter<W>,
    end: RecordingEnd,
    /// Lines and drops before this boot.
    boot: (u64, u64),
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Queued>) -> RecordingEnd {
        let mut unwritten = false;
        loop {
            let queued = match unwritten {
                true => lines.recv_timeout(SOON),
                false => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match queued {
                Ok(Queued::Finish(dropped)) => {
                    self.note_dropped(Instant::now(), dropped);
                    break;
                }
                Ok(queued) => {
                    self.take(queued);
                    unwritten = true;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    unwritten = false;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush();
        self.end
    }

    fn take(&mut self, queued: Queued) {
        match queued {
            Queued::Boot(boot) => {
                self.boot = (self.end.lines, self.end.dropped);
                self.write(&Line::Boot(boot));
            }
            Queued::Start(at, piece) => {
                let (t, cut) = (self.time(at), piece.cut);
                self.write(&Line::Start(Start { t, calls: plugin_calls(piece.calls), cut }));
            }
            Queued::Answered(answered, dropped) => {
                self.note_dropped(answered.began, dropped);
                self.shared.calls_waiting.fetch_sub(size_of_calls(&answered.calls), Relaxed);
                let t = self.time(answered.began);
                self.write_counted(&Line::Access(access(*answered, t)));
            }
            Queued::Woken(woken, dropped) => {
                self.note_dropped(woken.began, dropped);
                self.shared.calls_waiting.fetch_sub(size_of_calls(&woken.calls), Relaxed);
                let (t, ns, cut) = (self.time(woken.began), nanos(woken.took), woken.calls.cut);
                let (vcpu, calls) = (woken.vcpu.0, plugin_calls(woken.calls.calls));
                self.write_counted(&Line::Wake(Wake { t, vcpu, ns, calls, cut }));
            }
            Queued::End(at, dropped) => {
                self.note_dropped(at, dropped);
                let (lines, dropped) = self.boot;
                let (lines, dropped) = (self.end.lines - lines, self.end.dropped - dropped);
                self.write(&Line::End(End { t: self.time(at), lines, dropped }));
            }
            Queued::Finish(_) => {}
        }
    }

    fn note_dropped(&mut self, at: Instant, lines: u64) {
        if lines > 0 {
            self.end.dropped += lines;
            self.write(&Line::Dropped(Dropped { t: self.time(at), lines }));
        }
    }

    fn write_counted(&mut self, line: &Line) {
        match self.write(line) {
            true => self.end.lines += 1,
            false => self.end.dropped += 1,
        }
    }

    fn write(&mut self, line: &Line) -> bool {
        if self.end.error.is_some() {
            return false;
        }
        let written = serde_json::to_writer(&mut self.file, line)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|error| self.fail(error)).is_ok()
    }

    fn flush(&mut self) {
        if self.end.error.is_none() {
            let flushed = self.file.flush();
            let _ = flushed.map_err(|error| self.fail(error));
        }
    }

    fn fail(&mut self, error: io::Error) {
        tracing::error!("the recording ends here, its file takes no more: {error}");
        self.end.error = Some(error);
    }

    fn time(&self, at: Instant) -> u64 {
        since(self.shared.began, at)
    }
}

/// What a boot runs with, as far as the engine knows.
pub(crate) fn boot_line(
    vcpus: u32,
    kernel: Option<String>,
    plugins: Vec<BootPlugin>,
    profile: &crate::Profile,
) -> Boot {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Boot {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t: 0,
        unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        boot: 0,
        vcpus,
        kernel,
        plugins,
        profile: profile.path.clone(),
        text: profile.text.to_string(),
    }
}

fn access(answered: Answered, t: u64) -> Access {
    let MsrAccess { index, op, reason } = answered.access;
    let (outcome, read) = match answered.outcome {
        Outcome::Handled(value) => (Ended::Handled, Some(value)),
        Outcome::Fault => (Ended::Fault, None),
        Outcome::Kernel => (Ended::Kernel, answered.kernel),
        Outcome::Stop(_) => (Ended::Stop, None),
    };
    let is_write = matches!(op, MsrOp::Write(_));
    let refused = is_write && outcome == Ended::Kernel && answered.kernel.is_none();
    let (op, value) = match op {
        MsrOp::Read => (Op::Read, read),
        MsrOp::Write(value) => (Op::Write, Some(value)),
    };
    Access {
        t,
        vcpu: answered.vcpu.0,
        msr: index,
        name: index.name().map(str::to_owned),
        op,
        reason,
        value: value.map(Hex),
        outcome,
        refused,
        plugin: answered.plugin.map(|name| name.to_string()),
        failed: answered.failed,
        ns: nanos(answered.took),
        cut: answered.calls.cut,
        calls: plugin_calls(answered.calls.calls),
    }
}

fn since(began: Instant, at: Instant) -> u64 {
    nanos(at.saturating_duration_since(began))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
