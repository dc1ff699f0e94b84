//! An instance that is replaced when it fails.

use std::fmt;
use std::sync::Arc;

use wasmsr_interface::{MsrAccess, Outcome, VcpuId, counted};

use super::backoff::Backoff;
use super::located::Located;
use crate::plugin::{
    Answer, Cause, Failure, Instance, InstanceError, Log, Plugin, Surroundings, Written,
};
use crate::profile::OnFailure;
use crate::rate_limit::RateLimit;
use crate::state::InstanceState;

/// Failure messages at once, and per second after that.
const MESSAGE_BURST: u32 = 10;
const MESSAGES_PER_SECOND: u32 = 1;

/// An instance with its history of failures.
pub(crate) struct SupervisedInstance {
    plugin: Arc<Plugin>,
    vm: Surroundings,
    scope: Option<VcpuId>,
    /// The log of all its instances.
    log: Log,
    live: Option<Instance>,
    disabled: Option<Disabled>,
    backoff: Backoff,
    messages: RateLimit,
}

/// What answers in place of a plugin that was disabled.
struct Disabled {
    answer: OnFailure,
    /// The plugin as it was.
    waiting: Option<Instance>,
}

impl SupervisedInstance {
    pub(crate) fn new(
        plugin: &Arc<Plugin>,
        vm: &Surroundings,
        scope: Option<VcpuId>,
    ) -> Result<Self, InstanceError> {
        let log = Log::of(&plugin.name);
        let live = Instance::new(plugin, vm, &log, scope, scope.unwrap_or(VcpuId(0)))?;
        Ok(SupervisedInstance {
            plugin: plugin.clone(),
            vm: vm.clone(),
            scope,
            log,
            live: Some(live),
            disabled: None,
            backoff: Backoff::default(),
            messages: RateLimit::new(MESSAGE_BURST, MESSAGES_PER_SECOND),
        })
    }

    /// The plugin's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.plugin.name
    }

    /// The vCPU of a vCPU's own instance; `None` for the VM's instance.
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

    /// Answers in place of the plugin from now on; `None`: the plugin goes on, with the
    /// state that it had.
    pub(crate) fn disable(&mut self, answer: Option<OnFailure>) {
        let was = self.disabled.take();
        match answer {
            Some(answer) => {
                let waiting = was.map_or_else(|| self.live.take(), |was| was.waiting);
                self.disabled = Some(Disabled { answer, waiting });
            }
            None => {
                if let Some(was) = was {
                    self.live = was.waiting;
                }
            }
        }
    }

    /// Whether something else answers in place of the plugin.
    pub(crate) fn is_disabled(&self) -> bool {
        self.disabled.is_some()
    }

    /// The state after a reset of the guest: by the plugin's own `reset`, or
    /// else by a fresh instance. Says whether one of them failed.
    pub(super) fn reset(&mut self, vcpu: VcpuId) -> bool {
        self.backoff = Backoff::default();
        if let Some(disabled) = &mut self.disabled {
            // It starts afresh when it goes on.
            disabled.waiting = None;
            return false;
        }
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
            Err(error) => Err(Cause::NotReplaced(error.to_string()).into()),
        }
    }

    /// When the plugin's timer is due on the thread of `vcpu`.
    pub(super) fn timer(&self, vcpu: VcpuId) -> Option<u64> {
        self.live.as_ref()?.timer(vcpu)
    }

    /// Calls the plugin's timer, if it is due. Says whether it failed.
    pub(super) fn wake(&mut self, now: u64, vcpu: VcpuId) -> bool {
        if self.timer(vcpu).is_none_or(|at| at > now) {
            return false;
        }
        let Some(Err(failure)) = self.live.as_mut().map(|live| live.fire(vcpu)) else {
            return false;
        };
        self.note_failure(&format_args!("in its timer on {vcpu}"), &failure);
        true
    }

    /// The plugin's report after the run; `None` if that failed.
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

    /// Says what the log does not say yet of lines and failures for which it had no room.
    pub(crate) fn settle_log(&mut self) {
        self.log.settle();
        let unsaid = self.messages.take_refused();
        if unsaid > 0 {
            let unsaid = counted(unsaid, "failure was", "failures were");
            tracing::warn!("plugin {}: {unsaid} not reported", self.plugin.name);
        }
    }

    /// What the plugin saves, for another version of it if one is named. A plugin that
    /// has just failed saves nothing.
    pub(crate) fn save(
        &mut self,
        vcpu: VcpuId,
        for_version: Option<&str>,
    ) -> Result<Option<InstanceState>, InstanceError> {
        // One that was disabled has its state all the same.
        let instance = match &mut self.disabled {
            Some(disabled) => &mut disabled.waiting,
            None => &mut self.live,
        };
        let Some(live) = instance else { return Ok(None) };
        let written = live.save(vcpu, for_version).inspect_err(|error| {
            if matches!(error, InstanceError::Save(_)) {
                *instance = None;
            }
        })?;
        Ok(written.map(|Written { version, bytes }| InstanceState {
            plugin: self.plugin.name.to_string(),
            version,
            vcpu: self.scope.map(|vcpu| vcpu.0),
            bytes,
        }))
    }

    /// When the plugin wants to be called, and on which vCPU's thread.
    pub(crate) fn pending_timer(&self) -> Option<(VcpuId, u64)> {
        self.live.as_ref()?.pending_timer()
    }

    /// Has the plugin called at a time for which an instance before it waited.
    pub(crate) fn take_over_timer(&mut self, vcpu: VcpuId, at: u64) {
        if let Some(live) = &mut self.live {
            live.take_over_timer(vcpu, at);
        }
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

    /// Puts an access to the plugin.
    ///
    /// # Errors
    /// The outcome that `on-failure` gives, if the plugin fails or is not asked after
    /// it failed.
    #[inline]
    pub(crate) fn answer(&mut self, access: MsrAccess, vcpu: VcpuId) -> Result<Answer, Outcome> {
        if let Some(live) = &mut self.live {
            return match live.answer(access, vcpu) {
                Ok(answer) => {
                    self.backoff.succeeded();
                    Ok(answer)
                }
                Err(failure) => Err(self.fail(access, vcpu, &failure)),
            };
        }
        self.restart(access, vcpu)
    }

    /// The access after a failure: the plugin backs off, or a fresh instance answers.
    #[cold]
    fn restart(&mut self, access: MsrAccess, vcpu: VcpuId) -> Result<Answer, Outcome> {
        if let Some(Disabled { answer, .. }) = self.disabled {
            return Err(self.outcome(answer, access, "it was disabled"));
        }
        if self.backoff.skips() {
            return Err(self.on_failure(access, "it backs off after repeated failures"));
        }
        match self.renew(vcpu) {
            Ok(()) => self.answer(access, vcpu),
            Err(failure) => Err(self.fail(access, vcpu, &failure)),
        }
    }

    #[cold]
    fn fail(&mut self, access: MsrAccess, vcpu: VcpuId, failure: &Failure) -> Outcome {
        let host = self.vm.host.clone();
        let (access_described, at) = (access.described(), Located { vcpu, host: &*host });
        self.note_failure(&format_args!("at the {access_described} on {at}"), failure);
        self.on_failure(access, failure)
    }

    #[cold]
    fn note_failure(&mut self, place: &dyn fmt::Display, failure: &Failure) {
        self.live = None;
        let skipped = self.backoff.failed();
        let Some(unsaid) = self.messages.allow() else { return };
        let then = match self.plugin.config.shadow_of {
            Some(_) => "the guest does not notice".to_owned(),
            None => format!("on-failure = \"{}\"", self.plugin.config.on_failure),
        };
        tracing::warn!(
            "plugin {} failed {place}: {failure}; {then}{}{}",
            self.plugin.name,
            match skipped {
                0 => String::new(),
                1 => "; it is not asked for the next access".to_owned(),
                skipped => format!("; it is not asked for the next {skipped} accesses"),
            },
            match unsaid {
                0 => String::new(),
                1 => " (1 failure before this one was not reported)".to_owned(),
                unsaid => format!(" ({unsaid} failures before this one were not reported)"),
            },
        );
    }

    fn on_failure(&self, access: MsrAccess, why: impl fmt::Display) -> Outcome {
        self.outcome(self.plugin.config.on_failure, access, why)
    }

    fn outcome(&self, answer: OnFailure, access: MsrAccess, why: impl fmt::Display) -> Outcome {
        match answer {
            OnFailure::Fault => Outcome::Fault,
            OnFailure::Kernel => Outcome::Kernel,
            OnFailure::Ignore => Outcome::ignored(access.op),
            OnFailure::Stop => Outcome::Stop(
                format!(
                    "plugin {} failed at the {}: {why}; its profile says on-failure = \"stop\"",
                    self.plugin.name,
                    access.described(),
                )
                .into(),
            ),
        }
    }
}
