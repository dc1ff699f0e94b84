//! Shadows: plugins that are put the accesses of another, which stays in
//! charge. Their answers are compared and discarded, what they would change is
//! withheld.
//!
//! A shadow is given the replies that the plugin in charge was given to the
//! same host calls, so that a clock read a moment later is no difference.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::claims::Answers;
use crate::host::{ExitsRefused, Host, OutsideMemory, VcpuTimes};
use crate::msr::{
    Direction, ExitList, MsrAccess, MsrIndex, MsrOp, Outcome, Reason, SeatId, VcpuId,
};
use crate::plugin::Plugin;
use crate::record::tape::{self, TapedCall};
use crate::record::{Bytes, HostCall, prompt};
use crate::seat::{Seat, SeatPlan, Verdict};

/// Differences that are kept as examples, of different MSRs or directions.
const MOST_EXAMPLES: usize = 16;

/// A shadow, before anything lives.
pub(crate) struct ShadowPlan {
    pub(crate) plugin: Arc<Plugin>,
    /// The plugin in charge.
    pub(crate) of: Arc<str>,
    pub(crate) seats: Vec<SeatPlan>,
    pub(crate) answers: Arc<Answers>,
}

/// What a shadow has shown so far, over all vCPUs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// The shadow's name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The plugin in charge.
    pub of: Arc<str>,
    /// Accesses that both were put.
    pub accesses: u64,
    /// Those that the shadow answered otherwise.
    pub answers: u64,
    /// Those, and timers, at which it would have changed the guest's memory or
    /// KVM's MSRs otherwise.
    pub effects: u64,
    /// Those that it does not claim.
    pub unclaimed: u64,
    /// Those at which it failed.
    pub failures: u64,
    /// Accesses that the shadow was called for.
    pub timed: u64,
    /// The time of these calls.
    pub took: Duration,
    /// The time of the same accesses with the plugin in charge.
    pub took_in_charge: Duration,
    /// One difference for each of the first MSRs and directions.
    pub examples: Vec<String>,
}

impl ShadowCounts {
    /// Adds the counts of another, whoever that is.
    pub fn add(&mut self, other: &ShadowCounts) {
        self.accesses = self.accesses.saturating_add(other.accesses);
        self.answers = self.answers.saturating_add(other.answers);
        self.effects = self.effects.saturating_add(other.effects);
        self.unclaimed = self.unclaimed.saturating_add(other.unclaimed);
        self.failures = self.failures.saturating_add(other.failures);
        self.timed = self.timed.saturating_add(other.timed);
        self.took = self.took.saturating_add(other.took);
        self.took_in_charge = self.took_in_charge.saturating_add(other.took_in_charge);
    }

    /// Mean time of the shadow's calls.
    pub fn mean(&self) -> Option<Duration> {
        self.mean_of(self.took)
    }

    /// Mean time of the same accesses with the plugin in charge.
    pub fn mean_in_charge(&self) -> Option<Duration> {
        self.mean_of(self.took_in_charge)
    }

    fn mean_of(&self, time: Duration) -> Option<Duration> {
        let nanos = time.as_nanos().checked_div(self.timed.into())?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// The shadows of a running VM, for whoever wants to know how they do.
#[derive(Clone, Default)]
pub struct ShadowTallies(pub(crate) Vec<Arc<Tally>>);

impl ShadowTallies {
    /// The counts so far, in the order of the profile.
    pub fn counts(&self) -> Vec<ShadowCounts> {
        self.0.iter().map(|tally| tally.counts()).collect()
    }
}

/// One vCPU's shadows.
pub(crate) struct Shadows(pub(crate) Vec<Follower>);

/// One shadow with the instances that a vCPU reaches.
pub(crate) struct Follower {
    pub(crate) of: Arc<str>,
    /// The seats of the plugin in charge.
    pub(crate) leaders: Vec<SeatId>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) seats: Box<[Seat]>,
    pub(crate) tally: Arc<Tally>,
}

/// How a shadow does.
pub(crate) struct Tally {
    plugin: Arc<Plugin>,
    of: Arc<str>,
    sums: Mutex<Sums>,
}

#[derive(Default)]
struct Sums {
    accesses: u64,
    answers: u64,
    effects: u64,
    unclaimed: u64,
    failures: u64,
    timed: u64,
    took: Duration,
    took_in_charge: Duration,
    told: BTreeSet<Option<(MsrIndex, bool)>>,
    examples: Vec<String>,
}

impl Shadows {
    /// Puts an access to the shadows of whoever sits in `leader`, which came to
    /// `verdict` with these host calls.
    pub(crate) fn follow(
        &mut self,
        leader: SeatId,
        access: MsrAccess,
        verdict: &Verdict,
        calls: &[TapedCall],
        took: Duration,
        vcpu: VcpuId,
    ) {
        for follower in self.0.iter_mut().filter(|follower| follower.leaders.contains(&leader)) {
            follower.follow(access, verdict, calls, took, vcpu);
        }
    }

    /// Serves the shadows' timers, by the clock by which those of the plugins
    /// in charge were served, with these host calls. Says when the next is due.
    pub(crate) fn wake(&mut self, now: u64, calls: &[TapedCall], vcpu: VcpuId) -> Option<u64> {
        let followers = self.0.iter_mut();
        followers.filter_map(|follower| follower.wake(now, calls, vcpu)).min()
    }

    /// Brings the shadows to their state after a reset of the guest, at which
    /// the plugins in charge made these host calls.
    pub(crate) fn reset(&mut self, calls: &[TapedCall], vcpu: VcpuId) {
        for follower in &mut self.0 {
            let seats = &mut follower.seats;
            let prompt = calls_of(&follower.of, calls);
            prompt::with(prompt, || {
                for seat in seats {
                    seat.reset(vcpu);
                }
            });
        }
        tape::take();
    }
}

impl Follower {
    fn follow(
        &mut self,
        access: MsrAccess,
        verdict: &Verdict,
        calls: &[TapedCall],
        took: Duration,
        vcpu: VcpuId,
    ) {
        let Some(seat) = self.seat(access).and_then(|id| self.seats.get_mut(usize::from(id.0)))
        else {
            let missing = "does not claim it".to_owned();
            let mut sums = self.tally.sums();
            sums.accesses += 1;
            sums.unclaimed += 1;
            let occasion = Occasion::Access(access, vcpu);
            return self.tally.tell(sums, occasion, &Shown(verdict, access), &missing);
        };
        let prompt = calls_of(&self.of, calls);
        let effects = effects(&prompt);
        let began = Instant::now();
        let (own, _) = prompt::with(prompt, || seat.answer(access, vcpu, None));
        let own_took = began.elapsed();
        let own_effects = self::effects(&tape::take().calls);

        let mut sums = self.tally.sums();
        sums.accesses += 1;
        sums.timed += 1;
        sums.took += own_took;
        sums.took_in_charge += took;
        sums.failures += u64::from(matches!(own, Verdict::Failed(_)));
        if !alike(verdict, &own, access) {
            sums.answers += 1;
            let (shown, own) = (Shown(verdict, access), Shown(&own, access).to_string());
            self.tally.tell(sums, Occasion::Access(access, vcpu), &shown, &own);
        } else if own_effects != effects {
            sums.effects += 1;
            let (shown, own) = (Effects(&effects), Effects(&own_effects).to_string());
            self.tally.tell(sums, Occasion::Access(access, vcpu), &shown, &own);
        }
    }

    fn wake(&mut self, now: u64, calls: &[TapedCall], vcpu: VcpuId) -> Option<u64> {
        let prompt = calls_of(&self.of, calls);
        let effects = effects(&prompt);
        let seats = &mut self.seats;
        let (next, _) = prompt::with(prompt, || {
            seats.iter_mut().filter_map(|seat| seat.wake(now, vcpu).next).min()
        });
        let own_effects = self::effects(&tape::take().calls);
        if own_effects != effects {
            let mut sums = self.tally.sums();
            sums.effects += 1;
            let (shown, own) = (Effects(&effects), Effects(&own_effects).to_string());
            self.tally.tell(sums, Occasion::Timers(vcpu), &shown, &own);
        }
        next
    }

    /// Whose turn it is in the shadow, as the engine asks plugins.
    fn seat(&self, access: MsrAccess) -> Option<SeatId> {
        let claimed = self.answers.map.lookup(access.index, access.op.direction()).first();
        let unhandled = match access.reason {
            Reason::Filter => None,
            Reason::Unknown => self.answers.unknown.first(),
            Reason::Invalid => self.answers.invalid.first(),
        };
        claimed.or(unhandled).copied()
    }
}

impl Tally {
    pub(crate) fn new(plan: &ShadowPlan) -> Self {
        let (plugin, of) = (plan.plugin.clone(), plan.of.clone());
        Tally { plugin, of, sums: Mutex::default() }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a difference, once for each MSR and direction.
    fn tell(
        &self,
        mut sums: MutexGuard<'_, Sums>,
        occasion: Occasion,
        in_charge: &dyn fmt::Display,
        shadow: &str,
    ) {
        if sums.examples.len() >= MOST_EXAMPLES || !sums.told.insert(occasion.key()) {
            return;
        }
        let example = format!("{occasion}: {in_charge}; the shadow: {shadow}");
        tracing::warn!("plugin {} differs: {example}", self.plugin.name);
        sums.examples.push(example);
    }

    fn counts(&self) -> ShadowCounts {
        let sums = self.sums();
        ShadowCounts {
            plugin: self.plugin.manifest.plugin.name.clone(),
            version: self.plugin.manifest.plugin.version.to_string(),
            of: self.of.clone(),
            accesses: sums.accesses,
            answers: sums.answers,
            effects: sums.effects,
            unclaimed: sums.unclaimed,
            failures: sums.failures,
            timed: sums.timed,
            took: sums.took,
            took_in_charge: sums.took_in_charge,
            examples: sums.examples.clone(),
        }
    }
}

/// What the plugins were called for.
#[derive(Clone, Copy)]
enum Occasion {
    Access(MsrAccess, VcpuId),
    Timers(VcpuId),
}

impl Occasion {
    /// What is said once: an MSR, and whether it is read; or timers.
    fn key(self) -> Option<(MsrIndex, bool)> {
        match self {
            Occasion::Access(access, _) => Some((access.index, access.op == MsrOp::Read)),
            Occasion::Timers(_) => None,
        }
    }
}

impl fmt::Display for Occasion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Occasion::Timers(vcpu) => write!(f, "timers on {vcpu}"),
            Occasion::Access(MsrAccess { index, op: MsrOp::Read, .. }, vcpu) => {
                write!(f, "read of {} on {vcpu}", index.described())
            }
            Occasion::Access(MsrAccess { index, op: MsrOp::Write(value), .. }, vcpu) => {
                write!(f, "write of {value:#x} to {} on {vcpu}", index.described())
            }
        }
    }
}

/// The host calls of one plugin.
fn calls_of(plugin: &str, calls: &[TapedCall]) -> Vec<TapedCall> {
    calls.iter().filter(|taped| *taped.plugin == *plugin).cloned().collect()
}

fn effects(calls: &[TapedCall]) -> Vec<HostCall> {
    calls.iter().map(|taped| &taped.call).filter(|call| call.is_effect()).cloned().collect()
}

/// Whether two plugins came to the same. What a write is answered with beside
/// "done" means nothing.
fn alike(one: &Verdict, other: &Verdict, access: MsrAccess) -> bool {
    let write = access.op.direction() == Direction::Write;
    match (one, other) {
        (Verdict::Answered(Outcome::Handled(_)), Verdict::Answered(Outcome::Handled(_)))
            if write =>
        {
            true
        }
        (Verdict::Failed(_), Verdict::Failed(_)) => true,
        _ => one == other,
    }
}

/// A verdict for people.
struct Shown<'a>(&'a Verdict, MsrAccess);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1.op) {
            (Verdict::Passed, _) => f.write_str("passed on"),
            (Verdict::Failed(_), _) => f.write_str("failed"),
            (Verdict::Answered(Outcome::Handled(value)), MsrOp::Read) => write!(f, "{value:#x}"),
            (Verdict::Answered(Outcome::Handled(_)), MsrOp::Write(_)) => f.write_str("done"),
            (Verdict::Answered(Outcome::Fault), _) => f.write_str("#GP"),
            (Verdict::Answered(Outcome::Kernel), _) => f.write_str("left to KVM"),
            (Verdict::Answered(Outcome::Stop(_)), _) => f.write_str("stop"),
        }
    }
}

/// What a plugin changed, for people.
struct Effects<'a>(&'a [HostCall]);

impl fmt::Display for Effects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        if self.0.is_empty() {
            return f.write_str("changed nothing");
        }
        for (position, effect) in self.0.iter().take(4).enumerate() {
            f.write_str(if position == 0 { "" } else { ", " })?;
            match effect {
                HostCall::GuestWrite { gpa, data, .. } => {
                    let more = if data.0.len() > SHOWN { "…" } else { "" };
                    let start = Bytes(data.0.iter().take(SHOWN).copied().collect());
                    write!(f, "wrote {start}{more} to GPA {:#x}", gpa.0)?;
                }
                HostCall::KvmWrmsr { msr, value, .. } => {
                    write!(f, "set KVM's {} to {:#x}", msr.described(), value.0)?;
                }
                _ => {}
            }
        }
        match self.0.len() {
            0..=4 => Ok(()),
            more => write!(f, " and {} more", more - 4),
        }
    }
}

/// A host that is only looked at.
pub(crate) struct WithheldHost(pub(crate) Arc<dyn Host>);

impl Host for WithheldHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.0.guest_tsc(vcpu)
    }

    fn tsc_khz(&self) -> u32 {
        self.0.tsc_khz()
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        self.0.realtime_ns()
    }

    fn tsc_is_stable(&self) -> bool {
        self.0.tsc_is_stable()
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.0.vcpu_times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.0.read_memory(gpa, out)
    }

    /// Looks whether the write could have been done.
    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        self.0.read_memory(gpa, &mut vec![0; data.len()])
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex) -> Option<u64> {
        self.0.kvm_msr(vcpu, index)
    }

    /// Whether KVM would take a value shows only when it is set.
    fn set_kvm_msr(&self, _: VcpuId, _: MsrIndex, _: u64) -> bool {
        true
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.0.host_msr(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.0.host_cpus()
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        self.0.read_host_file(path, out)
    }

    fn set_exits(&self, _: &ExitList) -> Result<(), ExitsRefused> {
        Ok(())
    }

    /// A shadow's timers come as if it were in charge.
    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.0.wake_at(vcpu, at);
    }
}
