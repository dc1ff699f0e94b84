//! When plugins want to be called: one time per vCPU, set by the vCPUs' threads and
//! watched by a thread of the VMM's, which gets a vCPU out of the guest when its time has
//! come.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmsr_interface::VcpuId;

/// How soon a kick is repeated: one that comes just before an entry is lost.
const AGAIN: Duration = Duration::from_millis(1);

/// No time.
const NEVER: u64 = u64::MAX;

/// One pending time for each vCPU, in nanoseconds since this was made.
///
/// A VMM's main loop waits no longer than [`next_look`](Alarms::next_look), and then kicks
/// every vCPU that [`is_due`](Alarms::is_due) out of `KVM_RUN`. The vCPU's thread calls
/// [`MsrHandler::wake`](wasmsr_interface::MsrHandler::wake) after an interrupted `KVM_RUN`
/// if [`take`](Alarms::take) says so: KVM has then completed what the last exit asked for.
pub struct Alarms {
    start: Instant,
    /// In the order of vCPUs.
    times: Vec<AtomicU64>,
    listener: Mutex<Option<Box<dyn Fn() + Send>>>,
    /// Whether the listener was called since the last look. So plugins cannot flood it.
    told: AtomicBool,
}

impl Alarms {
    pub(crate) fn new(vcpus: usize) -> Self {
        Alarms {
            start: Instant::now(),
            times: std::iter::repeat_with(|| AtomicU64::new(NEVER)).take(vcpus).collect(),
            listener: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// The clock of the times, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    /// From now on `listener` is called when a vCPU's time comes sooner than it was, on
    /// that vCPU's thread, and not again before the next [`next_look`](Alarms::next_look).
    /// It should wake the loop that looks, and must not block.
    pub fn connect(&self, listener: impl Fn() + Send + 'static) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(listener));
    }

    /// Asks for `vcpu` to be woken at `at`; an earlier time stays.
    pub(crate) fn set(&self, vcpu: VcpuId, at: u64) {
        let Some(time) = self.time(vcpu) else { return };
        let sooner = time.fetch_min(at, Ordering::AcqRel) > at;
        if sooner && !self.told.swap(true, Ordering::AcqRel) {
            let listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(listener) = &*listener {
                listener();
            }
        }
    }

    /// Whether the time of `vcpu` has come; it is taken then.
    #[must_use]
    pub fn take(&self, vcpu: VcpuId) -> bool {
        let Some(time) = self.time(vcpu) else { return false };
        let at = time.load(Ordering::Acquire);
        at <= self.now()
            && time.compare_exchange(at, NEVER, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether `vcpu` should be got out of the guest.
    pub fn is_due(&self, vcpu: VcpuId) -> bool {
        self.time(vcpu).is_some_and(|time| time.load(Ordering::Acquire) <= self.now())
    }

    /// When the loop must look again, `latest` if nothing comes sooner.
    pub fn next_look(&self, latest: Instant) -> Instant {
        // Before the times are read: what is set meanwhile is told.
        self.told.store(false, Ordering::Release);
        let now = self.now();
        let soonest = self.times.iter().map(|time| time.load(Ordering::Acquire)).min();
        match soonest {
            None | Some(NEVER) => latest,
            Some(at) if at <= now => latest.min(Instant::now() + AGAIN),
            Some(at) => latest.min(Instant::now() + Duration::from_nanos(at - now)),
        }
    }

    fn time(&self, vcpu: VcpuId) -> Option<&AtomicU64> {
        self.times.get(usize::try_from(vcpu.0).ok()?)
    }
}

impl fmt::Debug for Alarms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarms").field("times", &self.times).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const V0: VcpuId = VcpuId(0);
    const V1: VcpuId = VcpuId(1);

    #[test]
    fn the_earliest_time_is_kept_and_taken_once() {
        let alarms = Alarms::new(2);
        alarms.set(V1, NEVER - 1);
        assert!(!alarms.is_due(V1) && !alarms.take(V1));
        alarms.set(V1, 0);
        alarms.set(V1, NEVER - 1);
        assert!(alarms.is_due(V1) && !alarms.is_due(V0));
        assert!(alarms.take(V1) && !alarms.take(V1));
    }

    #[test]
    fn one_message_is_under_way_at_most() {
        let alarms = Alarms::new(1);
        let (sender, receiver) = channel();
        alarms.connect(move || sender.send(()).unwrap());
        for at in (0..1000).rev() {
            alarms.set(V0, at);
        }
        assert_eq!(receiver.try_iter().count(), 1);
        assert!(alarms.take(V0));
        let latest = Instant::now() + Duration::from_secs(1);
        assert_eq!(alarms.next_look(latest), latest);
        alarms.set(V0, 0);
        assert_eq!(receiver.try_iter().count(), 1);
        assert!(alarms.next_look(latest) < latest, "a due time is looked at again, soon");
    }

    #[test]
    fn a_vcpu_that_does_not_exist_is_never_woken() {
        let alarms = Alarms::new(1);
        alarms.set(V1, 0);
        assert!(!alarms.take(V1));
    }
}
