//! When plugins want to be called, a time a vCPU: set by the vCPUs' threads,
//! watched by the main loop, which gets a vCPU out of the guest when its time
//! has come.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use wasmsr_interface::VcpuId;

use crate::control::Event;

/// How soon a kick is repeated: one that comes just before an entry is lost.
const AGAIN: Duration = Duration::from_millis(1);

/// No time.
const NEVER: u64 = u64::MAX;

/// One pending time for each vCPU, in nanoseconds since the VM was built.
pub(crate) struct Alarms {
    start: Instant,
    /// In the order of vCPUs.
    times: Vec<AtomicU64>,
    /// Tells the main loop that there is a new time. One message is under way
    /// at most, whatever the plugins do.
    events: Mutex<Option<Sender<Event>>>,
    told: AtomicBool,
}

impl Alarms {
    pub(crate) fn new(vcpus: usize) -> Self {
        Alarms {
            start: Instant::now(),
            times: std::iter::repeat_with(|| AtomicU64::new(NEVER)).take(vcpus).collect(),
            events: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// The clock of the times: nanoseconds since the VM was built.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    /// From now on the main loop listens.
    pub(crate) fn connect(&self, events: Sender<Event>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    }

    /// Asks for `vcpu` to be woken at `at`; an earlier time stays.
    pub(crate) fn set(&self, vcpu: VcpuId, at: u64) {
        let Some(time) = self.time(vcpu) else { return };
        let sooner = time.fetch_min(at, Ordering::AcqRel) > at;
        if sooner && !self.told.swap(true, Ordering::AcqRel) {
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(events) = &*events {
                // Without a receiver the run is over.
                let _ = events.send(Event::Alarm);
            }
        }
    }

    /// Whether the time of `vcpu` has come; it is taken then.
    pub(crate) fn take(&self, vcpu: VcpuId) -> bool {
        let Some(time) = self.time(vcpu) else { return false };
        let at = time.load(Ordering::Acquire);
        at <= self.now()
            && time.compare_exchange(at, NEVER, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether `vcpu` should be got out of the guest.
    pub(crate) fn is_due(&self, vcpu: VcpuId) -> bool {
        self.time(vcpu).is_some_and(|time| time.load(Ordering::Acquire) <= self.now())
    }

    /// When the main loop must look again, `latest` if nothing comes sooner.
    pub(crate) fn next_look(&self, latest: Instant) -> Instant {
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
        alarms.connect(sender);
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
