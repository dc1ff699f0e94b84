//! The VM's time: one line from the time-stamp counter to nanoseconds, and the
//! vCPUs that have asked to read it.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::clock::TscClock;
use wasmsr_sdk::memory::GuestAddress;
use wasmsr_sdk::time::{self, Moment};
use wasmsr_sdk::{Bits64, Error, MsrIndex, VcpuId, kvm, log, timer, vcpus};

use crate::pvclock::{self, Open, Published};
use crate::{ENABLED, wall_clock};

/// How much a guest has added to a vCPU's counter, by writing this MSR or the
/// counter itself (Intel SDM volume 3B, "Time-Stamp Counter Adjustment"). KVM
/// starts all counters equal, so without it they are the same.
const IA32_TSC_ADJUST: MsrIndex = MsrIndex(0x3b);

/// Wall clock and system time.
pub(crate) struct Clock {
    refresh_ns: u64,
    /// Over the counter without the guest's adjustment. Begins when a guest
    /// first asks for it.
    line: Option<TscClock>,
    /// The latest time that the guest may have read from the line before it was
    /// saved.
    seen_ns: Option<u64>,
    wall_clock: u64,
    vcpus: Vec<Registration>,
    /// The vCPU on whose thread the timer fires.
    timer_on: VcpuId,
}

/// One vCPU's `MSR_KVM_SYSTEM_TIME_NEW`, and what is needed to serve it.
#[derive(Debug, Default)]
struct Registration {
    value: u64,
    /// The vCPU's `IA32_TSC_ADJUST` when it was last read.
    tsc_adjust: u64,
    open: Option<Open>,
}

/// The clock's saved state.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    line: Option<TscClock>,
    seen_ns: Option<u64>,
    wall_clock: Bits64,
    /// Value and adjustment, in the order of vCPUs.
    system_time: Vec<(Bits64, u64)>,
}

impl Clock {
    pub(crate) fn new(refresh_ns: u64) -> Self {
        let count = usize::try_from(vcpus::count()).unwrap_or(0);
        let mut registrations = vec![];
        registrations.resize_with(count, Registration::default);
        Clock {
            refresh_ns,
            line: None,
            seen_ns: None,
            wall_clock: 0,
            vcpus: registrations,
            timer_on: VcpuId(0),
        }
    }

    pub(crate) fn wall_clock(&self) -> u64 {
        self.wall_clock
    }

    /// Writes the time at which the guest's system time was 0. As in KVM any
    /// value is accepted, and 0 is not an address.
    pub(crate) fn set_wall_clock(&mut self, vcpu: VcpuId, value: u64) {
        self.wall_clock = value;
        if value == 0 {
            return;
        }
        let now = self.republish(vcpu);
        let since = time::monotonic_ns().saturating_sub(now.ns);
        let system_time = self.line.map_or(0, |line| line.base_ns()).saturating_add(since);
        let boot = time::realtime_ns().saturating_sub(system_time);
        if wall_clock::write(GuestAddress(value), boot).is_err() {
            log::warn!("{vcpu} wants the wall clock at {value:#x}, where the guest has no memory");
        }
    }

    /// `None` for a vCPU that the VM does not have.
    pub(crate) fn system_time(&self, vcpu: VcpuId) -> Option<u64> {
        self.vcpus.get(position(vcpu)).map(|registration| registration.value)
    }

    /// Accepts any value, as KVM does; `None` as
    /// [`system_time`](Self::system_time).
    pub(crate) fn set_system_time(&mut self, vcpu: VcpuId, value: u64) -> Option<()> {
        let registration = self.vcpus.get_mut(position(vcpu))?;
        registration.value = value;
        if let Some(address) = registration.address() {
            if !pvclock::is_memory(address) {
                log::warn!(
                    "{vcpu} wants its system time at {address}, where the guest has no memory"
                );
            }
            self.republish(vcpu);
        }
        Some(())
    }

    pub(crate) fn timer(&mut self) {
        if self.vcpus.iter().any(Registration::is_enabled) {
            self.republish(self.timer_on);
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Clock::new(self.refresh_ns);
    }

    pub(crate) fn keep(&self) -> Kept {
        let seen = |line: TscClock| line.ns_at(time::tsc().wrapping_sub(tsc_adjust()));
        let kept = |r: &Registration| (Bits64(r.value), r.tsc_adjust);
        Kept {
            line: self.line,
            seen_ns: self.seen_ns.or_else(|| self.line.map(seen)),
            wall_clock: Bits64(self.wall_clock),
            system_time: self.vcpus.iter().map(kept).collect(),
        }
    }

    pub(crate) fn take_over(&mut self, kept: Kept) -> Result<(), Error> {
        let (saved, here) = (kept.system_time.len(), self.vcpus.len());
        if saved != here {
            return Err(Error::new(format_args!(
                "the state is of a VM with {saved} vCPUs, and this one has {here}"
            )));
        }
        self.line = kept.line;
        self.seen_ns = kept.seen_ns;
        self.wall_clock = kept.wall_clock.0;
        for (registration, (value, tsc_adjust)) in self.vcpus.iter_mut().zip(kept.system_time) {
            *registration = Registration { value: value.0, tsc_adjust, open: None };
        }
        // The structures in guest memory may be about another machine's counter.
        // They are written again when vCPUs run: the line must not bend before.
        self.call_at(0);
        Ok(())
    }

    /// Steers the line and writes it into the structures of all vCPUs,
    /// atomically for the guest; called on the thread of `vcpu`.
    ///
    /// Steering bends the line, and a vCPU with the old line beside one with the
    /// new would read different times. So first every version becomes odd, and
    /// readers wait; a reading that was complete before is earlier than the
    /// moment that is taken then, and up to that moment the old line holds. Then
    /// each structure gets the new line, which continues from that moment, and
    /// an even version. Returns the moment.
    fn republish(&mut self, vcpu: VcpuId) -> Moment {
        for registration in &mut self.vcpus {
            registration.open = registration.address().and_then(Open::at);
        }
        let now = self.take_moment(vcpu);
        let line = self.steer(now);
        let published = Published::new(&line, self.is_stable());
        for registration in &mut self.vcpus {
            if let Some(open) = registration.open.take() {
                open.close(published, registration.tsc_adjust);
            }
        }
        if self.vcpus.iter().any(Registration::is_enabled) {
            self.timer_on = vcpu;
            self.call_at(now.ns.saturating_add(self.refresh_ns));
        }
        now
    }

    /// Now, on the line's counter.
    fn take_moment(&mut self, vcpu: VcpuId) -> Moment {
        let tsc_adjust = tsc_adjust();
        if let Some(registration) = self.vcpus.get_mut(position(vcpu)) {
            registration.tsc_adjust = tsc_adjust;
        }
        let now = time::now();
        Moment { tsc: now.tsc.wrapping_sub(tsc_adjust), ..now }
    }

    fn steer(&mut self, now: Moment) -> TscClock {
        let line = self.line.get_or_insert_with(|| TscClock::start(now, time::tsc_khz()));
        line.steer(now);
        line.raise_to(self.seen_ns.take().unwrap_or(0));
        *line
    }

    /// Whether a guest may compare times of different vCPUs directly: the host's
    /// counters agree, and the guest has changed none.
    fn is_stable(&self) -> bool {
        let mut adjusts = self.vcpus.iter().filter(|r| r.is_enabled()).map(|r| r.tsc_adjust);
        let first = adjusts.next();
        adjusts.all(|adjust| Some(adjust) == first) && time::tsc_is_stable()
    }

    fn call_at(&self, ns: u64) {
        if timer::call_at(ns).is_err() {
            log::error!("the host sets no timer: the guest's clock is not steered");
        }
    }
}

impl Registration {
    fn is_enabled(&self) -> bool {
        self.value & ENABLED != 0
    }

    fn address(&self) -> Option<GuestAddress> {
        self.is_enabled().then_some(GuestAddress(self.value & !ENABLED))
    }
}

/// 0 if KVM has no such MSR: then no guest can have adjusted a counter.
fn tsc_adjust() -> u64 {
    kvm::rdmsr(IA32_TSC_ADJUST).unwrap_or(0)
}

fn position(vcpu: VcpuId) -> usize {
    usize::try_from(vcpu.0).unwrap_or(usize::MAX)
}
