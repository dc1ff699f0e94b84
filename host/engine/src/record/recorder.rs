//! Takes what vCPUs answer and puts it into a bounded queue. No vCPU waits for the
//! file: an access that finds no room in the queue is dropped and counted, and the
//! recording says where lines are missing.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::call_log::CallLog;
use super::event::{AccessEvent, WakeEvent, nanos};
use super::line::{BootLine, SwapLine};
use super::out::WrittenCounts;

/// Accesses and wakes that may wait to be written.
const ROOM: usize = 1 << 16;

/// Lines of boots that may wait beside them.
const ROOM_FOR_BOOTS: usize = 1 << 10;

/// Bytes of host calls that may wait with them.
const ROOM_FOR_CALLS: usize = 64 << 20;

/// Failures in reports and resets that a boot's last line names.
const MOST_FAILED: usize = 1 << 10;

/// Takes the accesses of one boot after another; see
/// [`Engine::start_recorded`](crate::Engine::start_recorded).
#[derive(Clone)]
pub struct Recorder(pub(super) Arc<Shared>);

/// What the vCPUs and the thread that writes have in common.
pub(super) struct Shared {
    pub(super) queue: Sender<Queued>,
    pub(super) began: Instant,
    boots: AtomicU64,
    /// The plugins that failed at no access and in no timer, in the present boot.
    failed: Mutex<Vec<String>>,
    /// A boot whose plugins have not started yet.
    boot: Mutex<Option<Box<BootLine>>>,
    /// Accesses and wakes that there were.
    pub(super) seen: AtomicU64,
    /// Those that were dropped since a line last had room.
    pub(super) dropped: AtomicU64,
    pub(super) waiting: AtomicUsize,
    pub(super) calls_waiting: AtomicUsize,
    /// Set when not even a boot had room.
    pub(super) given_up: AtomicBool,
    /// What the file has taken.
    pub(super) written: Arc<WrittenCounts>,
}

/// What waits to be written. The number is how many accesses and wakes were dropped
/// before it.
pub(super) enum Queued {
    Boot(Box<BootLine>),
    Start(Instant, CallLog),
    Access(Box<AccessEvent>, u64),
    Wake(Box<WakeEvent>, u64),
    Swap(Instant, Box<SwapLine>, CallLog, u64),
    End(Instant, u64),
    Finish(Instant, u64),
}

impl Recorder {
    /// A recorder whose queue has the thread that writes at its other end. `written`
    /// is what that thread counts.
    pub(super) fn new(written: Arc<WrittenCounts>) -> (Self, Receiver<Queued>) {
        let (queue, queued) = channel();
        let recorder = Recorder(Arc::new(Shared {
            queue,
            began: Instant::now(),
            boots: AtomicU64::new(0),
            failed: Mutex::default(),
            boot: Mutex::new(None),
            seen: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            calls_waiting: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            written,
        }));
        (recorder, queued)
    }

    /// Says what boots. It is written when its plugins have started.
    pub(crate) fn boot(&self, mut boot: BootLine) {
        boot.t = self.0.time(Instant::now());
        *self.pending() = Some(Box::new(boot));
    }

    /// Says that the plugins have started. In a recording that begins in a running VM they
    /// have started before; the calls are then those that others like them make while they
    /// start and take over the state of the boot's line.
    pub(crate) fn start(&self, calls: CallLog) {
        if let Some(mut boot) = self.pending().take() {
            boot.boot = self.0.boots.fetch_add(1, Relaxed) + 1;
            self.put(Queued::Boot(boot));
        }
        let calls = self.with_room(calls);
        self.put(Queued::Start(Instant::now(), calls));
    }

    /// Says that another set is in charge. To be called while no vCPU is with its plugins:
    /// accesses that are given to the recorder before it were answered by the old set, those
    /// after it by the new one.
    pub(crate) fn swap(&self, line: SwapLine, calls: CallLog) {
        let calls = self.with_room(calls);
        let dropped = self.0.dropped.swap(0, Relaxed);
        self.put(Queued::Swap(Instant::now(), Box::new(line), calls, dropped));
    }

    /// Says that no vCPU is recorded any more: the boot is over, or the recording is.
    pub(crate) fn end(&self) {
        let dropped = self.0.dropped.swap(0, Relaxed);
        self.put(Queued::End(Instant::now(), dropped));
    }

    /// A plugin failed in a report or a reset.
    pub(crate) fn failed(&self, plugin: &str) {
        let mut failed = self.0.failed();
        if failed.len() < MOST_FAILED {
            failed.push(plugin.to_owned());
        }
    }

    /// An access was answered.
    pub(crate) fn access(&self, event: Box<AccessEvent>) {
        let size = event.calls.size();
        self.offer(size, |dropped| Queued::Access(event, dropped));
    }

    /// Timers were served.
    pub(crate) fn wake(&self, event: Box<WakeEvent>) {
        let size = event.calls.size();
        self.offer(size, |dropped| Queued::Wake(event, dropped));
    }

    /// The calls, or if there is no room for them that they are missing.
    fn with_room(&self, calls: CallLog) -> CallLog {
        let size = calls.size();
        let waiting = self.0.calls_waiting.fetch_add(size, Relaxed);
        if waiting > 0 && waiting.saturating_add(size) > ROOM_FOR_CALLS {
            self.0.calls_waiting.fetch_sub(size, Relaxed);
            return CallLog::all_cut();
        }
        calls
    }

    fn pending(&self) -> MutexGuard<'_, Option<Box<BootLine>>> {
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
            // Fails only if the thread that writes has ended, which `finish` reports.
            let _ = shared.queue.send(line(dropped));
        } else {
            shared.calls_waiting.fetch_sub(size, Relaxed);
            shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Queues a line without which the lines that follow would belong to another
    /// boot. If there is no room for it, the recording ends.
    fn put(&self, line: Queued) {
        match self.has_room(ROOM + ROOM_FOR_BOOTS) {
            // As in `offer`.
            true => drop(self.0.queue.send(line)),
            false => self.0.given_up.store(true, Relaxed),
        }
    }

    /// Takes a place in the queue, which has `room` places.
    fn has_room(&self, room: usize) -> bool {
        let shared = &*self.0;
        let fits = shared.waiting.fetch_add(1, Relaxed) < room && !shared.given_up.load(Relaxed);
        if !fits {
            shared.waiting.fetch_sub(1, Relaxed);
        }
        fits
    }
}

impl Shared {
    fn failed(&self) -> MutexGuard<'_, Vec<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugins that failed in a report or a reset of the boot that is over.
    pub(super) fn take_failed(&self) -> Vec<String> {
        mem::take(&mut *self.failed())
    }

    /// Nanoseconds since the recording began.
    pub(super) fn time(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.began))
    }
}
