//! Writes a recording while the guest runs: vCPUs put what they answered into
//! a bounded queue, and a thread writes it out. Nobody waits for the file: what
//! finds no room is dropped, counted, and the recording says where.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bytesize::ByteSize;
use wasmsr_interface::{MsrAccess, MsrOp, Outcome, OutcomeKind, VcpuId};

use super::call::{HostCall, PluginCall};
use super::call_log::{CallLog, LoggedCall, plugin_calls};
use super::hex::Hex;
use super::line::{
    AccessLine, BootLine, BootPlugin, DroppedLine, EndLine, FORMAT, Line, Op, StartLine, WakeLine,
};
use super::out::{Out, Tally};

/// Accesses and wakes that may wait to be written.
const ROOM: usize = 1 << 16;

/// Lines of boots that may wait beside them.
const ROOM_FOR_BOOTS: usize = 1 << 10;

/// Bytes of host calls that may wait with them.
const ROOM_FOR_CALLS: usize = 64 << 20;

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

/// Takes what the plugins of one boot after another answer; see
/// [`Engine::start_recorded`](crate::Engine::start_recorded).
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

/// What has become of a recording.
#[derive(Debug)]
pub struct RecordingEnd {
    /// Accesses that the file has taken.
    pub accesses: u64,
    /// Times that it has taken at which plugins' timers were due.
    pub wakes: u64,
    /// Accesses and wakes that are missing, for whatever reason.
    pub dropped: u64,
    /// Bytes that the file has taken.
    pub bytes: u64,
    /// Why the recording ended before the run.
    pub stopped: Option<Stopped>,
}

/// Why a recording ended before its run.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The file takes no more.
    #[error("{0}")]
    File(io::Error),
    /// The recording has the size that it may have.
    #[error("it has reached its limit, {}", ByteSize(*.0))]
    Limit(u64),
    /// The file neither takes more nor fails.
    #[error("its file takes nothing, or too slowly")]
    Stuck,
}

struct Shared {
    queue: Sender<Queued>,
    began: Instant,
    boots: AtomicU64,
    /// A boot whose plugins have not started yet.
    boot: Mutex<Option<Box<BootLine>>>,
    /// Accesses and wakes that there were.
    seen: AtomicU64,
    /// Those that were dropped since a line last had room.
    dropped: AtomicU64,
    waiting: AtomicUsize,
    calls_waiting: AtomicUsize,
    /// Set when not even a boot had room.
    given_up: AtomicBool,
    /// What the file has taken.
    written: Arc<Tally>,
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
    pub(crate) calls: CallLog,
}

/// Timers that were served.
#[derive(Debug)]
pub(crate) struct Woken {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
    pub(crate) vcpu: VcpuId,
    pub(crate) calls: CallLog,
}

enum Queued {
    Boot(Box<BootLine>),
    Start(Instant, CallLog),
    Answered(Box<Answered>, u64),
    Woken(Box<Woken>, u64),
    End(Instant, u64),
    Finish(Instant, u64),
}

impl RecordingWriter {
    /// Begins a recording that is written to `out`, and ends before it has more
    /// than `limit` bytes. Nothing is written before plugins have started.
    ///
    /// # Errors
    /// What the system said, if it gives no thread.
    pub fn begin(out: impl Write + Send + 'static, limit: u64) -> io::Result<Self> {
        let (queue, lines) = channel();
        let written = Arc::new(Tally::default());
        let recorder = Recorder(Arc::new(Shared {
            queue,
            began: Instant::now(),
            boots: AtomicU64::new(0),
            boot: Mutex::new(None),
            seen: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            calls_waiting: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            written: written.clone(),
        }));
        let shared = Arc::clone(&recorder.0);
        let (ended, end) = channel();
        thread::Builder::new().name("recorder".into()).spawn(move || {
            let out = Out::new(out, limit, written);
            let writer = Writer { shared, out, due: None, before: (0, 0), total: (0, 0) };
            // Fails if nobody has waited for it any longer.
            let _ = ended.send(writer.run(&lines));
        })?;
        Ok(RecordingWriter { recorder, end })
    }

    /// Where accesses go.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Waits until everything is written, as long as the file takes something,
    /// and ends the recording.
    pub fn finish(self) -> RecordingEnd {
        let RecordingWriter { recorder: Recorder(shared), end } = self;
        let dropped = shared.dropped.swap(0, Relaxed);
        // Fails only if the writer is gone, which waiting for it tells.
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

impl Recorder {
    /// Says what boots. It is written when its plugins have started.
    pub(crate) fn boot(&self, mut boot: BootLine) {
        boot.t = since(self.0.began, Instant::now());
        *self.pending() = Some(Box::new(boot));
    }

    /// Says that the plugins have started.
    pub(crate) fn start(&self, mut calls: CallLog) {
        if let Some(mut boot) = self.pending().take() {
            boot.boot = self.0.boots.fetch_add(1, Relaxed) + 1;
            self.put(Queued::Boot(boot));
        }
        let size = size_of_calls(&calls);
        let waiting = self.0.calls_waiting.fetch_add(size, Relaxed);
        if waiting > 0 && waiting.saturating_add(size) > ROOM_FOR_CALLS {
            self.0.calls_waiting.fetch_sub(size, Relaxed);
            calls = CallLog { calls: Vec::new(), cut: true };
        }
        self.put(Queued::Start(Instant::now(), calls));
    }

    /// Says that no vCPU runs any more.
    pub(crate) fn end(&self) {
        let dropped = self.0.dropped.swap(0, Relaxed);
        self.put(Queued::End(Instant::now(), dropped));
    }

    pub(crate) fn answered(&self, answered: Box<Answered>) {
        let size = size_of_calls(&answered.calls);
        self.offer(size, |dropped| Queued::Answered(answered, dropped));
    }

    pub(crate) fn woken(&self, woken: Box<Woken>) {
        let size = size_of_calls(&woken.calls);
        self.offer(size, |dropped| Queued::Woken(woken, dropped));
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<Box<BootLine>>> {
        self.0.boot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an access or a wake if there is room for it and its calls.
    fn offer(&self, size: usize, line: impl FnOnce(u64) -> Queued) {
        let shared = &*self.0;
        shared.seen.fetch_add(1, Relaxed);
        let calls = shared.calls_waiting.fetch_add(size, Relaxed);
        let fits = calls.saturating_add(size) <= ROOM_FOR_CALLS && self.has_room(ROOM);
        if fits {
            let dropped = shared.dropped.swap(0, Relaxed);
            // Fails only if the writer is gone, which `finish` tells.
            let _ = shared.queue.send(line(dropped));
        } else {
            shared.calls_waiting.fetch_sub(size, Relaxed);
            shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Queues a line without which those that follow would be another boot's:
    /// where there is no room for it, the recording ends.
    fn put(&self, line: Queued) {
        match self.has_room(ROOM + ROOM_FOR_BOOTS) {
            // As in `offer`.
            true => drop(self.0.queue.send(line)),
            false => self.0.given_up.store(true, Relaxed),
        }
    }

    /// Takes a place in the queue, of which there are so many.
    fn has_room(&self, room: usize) -> bool {
        let shared = &*self.0;
        let fits = shared.waiting.fetch_add(1, Relaxed) < room && !shared.given_up.load(Relaxed);
        if !fits {
            shared.waiting.fetch_sub(1, Relaxed);
        }
        fits
    }
}

fn size_of_calls(log: &CallLog) -> usize {
    log.calls.iter().map(|logged| size_of::<LoggedCall>() + logged.call.size()).sum()
}

/// The thread at the other end of the queue.
struct Writer<W: Write> {
    shared: Arc<Shared>,
    out: Out<W>,
    /// When the oldest line that waits in the buffer is to be in the file.
    due: Option<Instant>,
    /// Accesses and wakes, and drops, before this boot.
    before: (u64, u64),
    /// And until now.
    total: (u64, u64),
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Queued>) -> Option<Stopped> {
        loop {
            let queued = match self.due {
                Some(due) => lines.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
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
                Err(RecvTimeoutError::Disconnected) => break,
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
        match queued {
            Queued::Boot(boot) => {
                self.before = self.total;
                self.out.line(&Line::Boot(boot));
            }
            Queued::Start(at, log) => {
                self.shared.calls_waiting.fetch_sub(size_of_calls(&log), Relaxed);
                let (t, cut) = (self.time(at), log.cut);
                self.out.line(&Line::Start(StartLine { t, calls: calls(log.calls), cut }));
            }
            Queued::Answered(answered, dropped) => {
                self.note_dropped(answered.began, dropped);
                self.shared.calls_waiting.fetch_sub(size_of_calls(&answered.calls), Relaxed);
                let t = self.time(answered.began);
                self.counted(&Line::Access(access(*answered, t)));
            }
            Queued::Woken(woken, dropped) => {
                self.note_dropped(woken.began, dropped);
                self.shared.calls_waiting.fetch_sub(size_of_calls(&woken.calls), Relaxed);
                let (t, ns, cut) = (self.time(woken.began), nanos(woken.took), woken.calls.cut);
                let (vcpu, calls) = (woken.vcpu.0, calls(woken.calls.calls));
                self.counted(&Line::Wake(WakeLine { t, vcpu, ns, calls, cut }));
            }
            Queued::End(at, dropped) => {
                self.note_dropped(at, dropped);
                let (lines, dropped) = (self.total.0 - self.before.0, self.total.1 - self.before.1);
                self.out.line(&Line::End(EndLine { t: self.time(at), lines, dropped }));
            }
            Queued::Finish(..) => {}
        }
    }

    /// The last that is written; of a recording that has reached its limit, how
    /// much it lacks.
    fn finish(&mut self, at: Instant, dropped: u64) {
        self.note_dropped(at, dropped);
        self.out.flush();
        let written = self.shared.written.accesses() + self.shared.written.wakes();
        let known = self.total.1;
        let lines = self.shared.seen.load(Relaxed).saturating_sub(written + known);
        if lines > 0 {
            self.out.last_line(&Line::Dropped(DroppedLine { t: self.time(at), lines }));
        }
    }

    fn note_dropped(&mut self, at: Instant, lines: u64) {
        if lines > 0 && self.out.line(&Line::Dropped(DroppedLine { t: self.time(at), lines })) {
            self.total.1 += lines;
        }
    }

    fn counted(&mut self, line: &Line) {
        self.total.0 += u64::from(self.out.line(line));
    }

    fn time(&self, at: Instant) -> u64 {
        since(self.shared.began, at)
    }
}

/// What a boot runs with, as far as the engine knows.
pub(crate) fn boot_line(
    vcpus: u32,
    kernel: Option<String>,
    mut plugins: Vec<BootPlugin>,
    profile: &crate::Profile,
) -> BootLine {
    for plugin in &mut plugins {
        plugin.path = from_anywhere(&plugin.path);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    BootLine {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t: 0,
        unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        boot: 0,
        vcpus,
        kernel,
        plugins,
        profile: from_anywhere(&profile.path),
        text: profile.text.to_string(),
    }
}

/// Calls as a recording has them.
pub(crate) fn calls(logged: Vec<LoggedCall>) -> Vec<PluginCall> {
    let mut calls = plugin_calls(logged);
    for call in &mut calls {
        if let HostCall::HostFile { path, .. } = &mut call.call {
            *path = from_anywhere(path);
        }
    }
    calls
}

/// A path that leads there from any folder, as far as text can hold it.
fn from_anywhere(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    PathBuf::from(path.to_string_lossy().into_owned())
}

fn access(answered: Answered, t: u64) -> AccessLine {
    let MsrAccess { index, op, reason } = answered.access;
    let outcome = answered.outcome.kind();
    let read = match answered.outcome {
        Outcome::Value(value) => Some(value),
        Outcome::Kernel => answered.kernel,
        Outcome::Done | Outcome::Fault | Outcome::Stop(_) => None,
    };
    let is_write = matches!(op, MsrOp::Write(_));
    let refused = is_write && outcome == OutcomeKind::Kernel && answered.kernel.is_none();
    let (op, value) = match op {
        MsrOp::Read => (Op::Read, read),
        MsrOp::Write(value) => (Op::Write, Some(value)),
    };
    AccessLine {
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
        calls: calls(answered.calls.calls),
    }
}

fn since(began: Instant, at: Instant) -> u64 {
    nanos(at.saturating_duration_since(began))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
