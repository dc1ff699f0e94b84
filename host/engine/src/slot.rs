//! Where a plugin sits while a VM runs: its live instance, and what is done
//! when a call into it fails.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::{MsrAccess, Outcome, VcpuId};

use crate::metrics::Sample;
use crate::plugin::{Answer, Failure, Instance, InstanceError, Log, Plugin, Scope, Surroundings};
use crate::profile::OnFailure;
use crate::rate_limit::RateLimit;
use crate::state::InstanceState;

/// Failures in a row that cost nothing but a fresh instance.
const FREE_FAILURES: u32 = 3;

/// Most accesses that a failing plugin is not asked after a failure.
const LONGEST_REST: u32 = 64;

/// Failure messages at once, and per second after that.
const MESSAGE_BURST: u32 = 10;
const MESSAGES_PER_SECOND: u32 = 1;

/// One slot in a vCPU's row.
#[expect(clippy::large_enum_variant, reason = "a box would be one more step on every access")]
pub(crate) enum Slot {
    /// This vCPU's own instance.
    Own(SupervisedInstance),
    /// The VM's one instance.
    Shared(Arc<Mutex<SupervisedInstance>>),
}

/// What came of asking a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answered(Outcome),
    /// Not this plugin's access: whoever comes next decides.
    Passed,
    /// What its failure leads to.
    Failed(Outcome),
}

/// What came of a wake.
pub(crate) struct Woken {
    /// When the plugin's timer is next.
    pub(crate) next: Option<u64>,
    pub(crate) failed: bool,
}

impl Slot {
    /// Puts an access to the plugin, which `sample` times.
    #[inline]
    pub(crate) fn answer(
        &mut self,
        access: MsrAccess,
        vcpu: VcpuId,
        sample: Option<&mut Sample>,
    ) -> Verdict {
        self.with(|instance| {
            let verdict = instance.answer(access, vcpu);
            if let Some(sample) = sample {
                sample.answered(|| instance.fuel_used());
            }
            verdict
        })
    }

    /// As [`answer`](Self::answer), and the fuel it took, which is unknown after
    /// a failure.
    #[cold]
    pub(crate) fn answer_metered(
        &mut self,
        access: MsrAccess,
        vcpu: VcpuId,
        sample: Option<&mut Sample>,
    ) -> (Verdict, Option<u64>) {
        self.with(|instance| {
            let verdict = instance.answer(access, vcpu);
            if let Some(sample) = sample {
                sample.answered(|| instance.fuel_used());
            }
            (verdict, instance.fuel_used())
        })
    }

    /// Calls the plugin's timer on the thread of `vcpu`, if it is due.
    pub(crate) fn wake(&mut self, now: u64, vcpu: VcpuId) -> Woken {
        self.with(|instance| {
            let failed = instance.wake(now, vcpu);
            Woken { next: instance.timer(vcpu), failed }
        })
    }

    /// The state after a reset of the guest; the VM's own instances are reset
    /// with the first of the vCPUs. Says whether the plugin failed.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) -> bool {
        self.with(|instance| {
            (instance.scope().is_some() || vcpu == VcpuId(0)) && instance.reset(vcpu)
        })
    }

    /// What is done with whoever sits there, alone.
    #[inline]
    pub(crate) fn with<R>(&mut self, f: impl FnOnce(&mut SupervisedInstance) -> R) -> R {
        match self {
            Slot::Own(instance) => f(instance),
            Slot::Shared(instance) => f(&mut lock(instance)),
        }
    }
}

/// A panic elsewhere is a bug of its own; the instance behind the lock is
/// whole between calls.
fn lock(instance: &Mutex<SupervisedInstance>) -> MutexGuard<'_, SupervisedInstance> {
    instance.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance with its history of failures.
pub(crate) struct SupervisedInstance {
    plugin: Arc<Plugin>,
    vm: Surroundings,
    scope: Option<VcpuId>,
    /// Of all its instances.
    log: Log,
    live: Option<Instance>,
    failures_in_a_row: u32,
    /// Accesses for which the plugin is still not asked.
    rest: u32,
    messages: RateLimit,
}

impl SupervisedInstance {
    pub(crate) fn new(
        plugin: &Arc<Plugin>,
        vm: &Surroundings,
        scope: Option<VcpuId>,
    ) -> Result<Self, InstanceError> {
        let log = Log::default();
        let live = Instance::new(plugin, vm, &log, scope, scope.unwrap_or(VcpuId(0)))?;
        Ok(SupervisedInstance {
            plugin: plugin.clone(),
            vm: vm.clone(),
            scope,
            log,
            live: Some(live),
            failures_in_a_row: 0,
            rest: 0,
            messages: RateLimit::new(MESSAGE_BURST, MESSAGES_PER_SECOND),
        })
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.plugin.name
    }

    /// Whose instance it is; `None` for the VM's.
    pub(crate) fn scope(&self) -> Option<VcpuId> {
        self.scope
    }

    /// Fuel that the last access put to the plugin used; `None` after a
    /// failure.
    pub(crate) fn fuel_used(&self) -> Option<u64> {
        self.live.as_ref().map(Instance::fuel_used)
    }

    /// Bytes of the plugin's memory; `None` after a failure.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.live.as_ref().map(Instance::memory)
    }

    /// The state after a reset of the guest: by the plugin's own `reset`, or
    /// else by a fresh instance. Says whether one of them failed.
    fn reset(&mut self, vcpu: VcpuId) -> bool {
        self.failures_in_a_row = 0;
        self.rest = 0;
        let place = format_args!("in its reset on {vcpu}");
        let reset = self.live.as_mut().map_or(Ok(false), |live| live.reset(vcpu));
        if reset == Ok(true) {
            return false;
        }
        if let Err(failure) = &reset {
            self.note_failure(&place, failure);
        }
        let renewed = self.renew(vcpu);
        if let Err(failure) = &renewed {
            self.note_failure(&place, failure);
        }
        reset.is_err() || renewed.is_err()
    }

    /// Brings a fresh instance to life while `vcpu` is served.
    fn renew(&mut self, vcpu: VcpuId) -> Result<(), Failure> {
        self.live = None;
        match Instance::new(&self.plugin, &self.vm, &self.log, self.scope, vcpu) {
            Ok(live) => {
                self.live = Some(live);
                Ok(())
            }
            Err(error) => Err(Failure::Trap { what: error.to_string(), ceiling: None }),
        }
    }

    /// When the plugin's timer is due on the thread of `vcpu`.
    fn timer(&self, vcpu: VcpuId) -> Option<u64> {
        self.live.as_ref()?.timer(vcpu)
    }

    /// Calls the plugin's timer, if it is due. Says whether it failed.
    fn wake(&mut self, now: u64, vcpu: VcpuId) -> bool {
        if self.timer(vcpu).is_none_or(|at| at > now) {
            return false;
        }
        let Some(Err(failure)) = self.live.as_mut().map(|live| live.fire(vcpu)) else {
            return false;
        };
        self.note_failure(&format_args!("in its timer on {vcpu}"), &failure);
        true
    }

    /// What the plugin has to tell after the run; `None` if that failed.
    pub(crate) fn report(&mut self, vcpu: VcpuId) -> Option<String> {
        let Some(live) = &mut self.live else { return Some(String::new()) };
        match live.report(vcpu) {
            Ok(text) => Some(text),
            Err(failure) => {
                self.note_failure(&"in its report", &failure);
                None
            }
        }
    }

    /// What the plugin wants to keep. One that has just failed keeps nothing.
    pub(crate) fn save(&mut self, vcpu: VcpuId) -> Result<Option<InstanceState>, InstanceError> {
        let Some(live) = &mut self.live else { return Ok(None) };
        let bytes = live.save(vcpu)?;
        Ok(bytes.map(|bytes| InstanceState {
            plugin: self.plugin.name.to_string(),
            version: self.plugin.manifest.plugin.version.to_string(),
            vcpu: self.scope.map(|vcpu| vcpu.0),
            bytes,
        }))
    }

    /// Gives the plugin what it saved.
    pub(crate) fn restore(
        &mut self,
        saved: &InstanceState,
        vcpu: VcpuId,
    ) -> Result<(), InstanceError> {
        match &mut self.live {
            Some(live) => live.restore(saved, vcpu),
            None => Ok(()),
        }
    }

    #[inline]
    fn answer(&mut self, access: MsrAccess, vcpu: VcpuId) -> Verdict {
        if let Some(live) = &mut self.live {
            match live.answer(access, vcpu) {
                Ok(answer) => {
                    self.failures_in_a_row = 0;
                    return match answer {
                        Answer::Value(value) => Verdict::Answered(Outcome::Value(value)),
                        Answer::Done => Verdict::Answered(Outcome::Done),
                        Answer::Fault => Verdict::Answered(Outcome::Fault),
                        Answer::Kernel => Verdict::Answered(Outcome::Kernel),
                        Answer::Pass => Verdict::Passed,
                    };
                }
                Err(failure) => return self.fail(access, vcpu, &failure),
            }
        }
        self.revive(access, vcpu)
    }

    /// The access after a failure: rest, or a fresh instance.
    #[cold]
    fn revive(&mut self, access: MsrAccess, vcpu: VcpuId) -> Verdict {
        if let Some(left) = self.rest.checked_sub(1) {
            self.rest = left;
            return Verdict::Failed(
                self.on_failure(access, "it is at rest after repeated failures"),
            );
        }
        match self.renew(vcpu) {
            Ok(()) => self.answer(access, vcpu),
            Err(failure) => self.fail(access, vcpu, &failure),
        }
    }

    #[cold]
    fn fail(&mut self, access: MsrAccess, vcpu: VcpuId, failure: &Failure) -> Verdict {
        let (direction, msr) = (access.op.direction(), access.index.described());
        self.note_failure(&format_args!("at the {direction} of {msr} on {vcpu}"), failure);
        Verdict::Failed(self.on_failure(access, failure))
    }

    #[cold]
    fn note_failure(&mut self, place: &dyn fmt::Display, failure: &Failure) {
        self.live = None;
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let beyond = self.failures_in_a_row.saturating_sub(FREE_FAILURES);
        self.rest = match beyond {
            0 => 0,
            beyond => 1u32.checked_shl(beyond).unwrap_or(LONGEST_REST).min(LONGEST_REST),
        };
        let Some(unsaid) = self.messages.allow() else { return };
        let then = match self.plugin.config.shadow_of {
            Some(_) => "the guest does not notice".to_owned(),
            None => format!("on-failure = \"{}\"", self.plugin.config.on_failure),
        };
        tracing::warn!(
            "plugin {} failed {place}: {failure}; {then}{}{}",
            self.plugin.name,
            match self.rest {
                0 => String::new(),
                rest => format!("; it rests for the next {rest} accesses"),
            },
            match unsaid {
                0 => String::new(),
                unsaid => format!(" ({unsaid} failures before this one were not reported)"),
            },
        );
    }

    fn on_failure(&self, access: MsrAccess, why: impl fmt::Display) -> Outcome {
        match self.plugin.config.on_failure {
            OnFailure::Fault => Outcome::Fault,
            OnFailure::Kernel => Outcome::Kernel,
            OnFailure::Ignore => Outcome::ignored(access.op),
            OnFailure::Stop => Outcome::Stop(
                format!(
                    "plugin {} failed at the {} of {}: {why}; its profile says on-failure = \"stop\"",
                    self.plugin.name,
                    access.op.direction(),
                    access.index.described(),
                )
                .into(),
            ),
        }
    }
}

/// What a slot is for, before anybody sits there.
#[derive(Clone)]
pub(crate) struct SlotPlan {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) scope: Scope,
}
