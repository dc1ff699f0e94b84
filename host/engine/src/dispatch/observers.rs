//! What observes the accesses of a vCPU: a recorder, and shadows.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmsr_interface::{Host, Initiator, MsrAccess, MsrOp, Outcome, Reason, VcpuId};

use super::order_lock::{Order, OrderLock};
use crate::manifest::Scope;
use crate::msr::{Decision, SlotId};
use crate::plugin::Answer;
use crate::record::{AccessEvent, CallLog, Recorder, WakeEvent};
use crate::shadow::{Answered, Asked, Compared, Judge, KernelShadows, Shadows};

/// The observers of one vCPU.
pub(crate) struct Observers {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) order_lock: OrderLock,
    pub(crate) shadows: Option<Shadows>,
    pub(crate) kernel: KernelShadows,
    /// The VMM's host, not a logging one.
    pub(crate) host: Arc<dyn Host>,
    /// The plugin in each slot.
    pub(crate) names: Arc<[Arc<str>]>,
    /// The plugins that were asked for the present access, if there are shadows.
    pub(crate) asked: Vec<Asked>,
    /// The number of the set of plugins, for the recorder.
    pub(crate) generation: u64,
    /// Set while the set is on probation.
    pub(crate) judge: Option<Arc<Judge>>,
}

/// When an access came, and how long it took.
#[derive(Clone, Copy)]
pub(super) struct Timing {
    pub(super) began: Instant,
    pub(super) took: Duration,
}

/// Timers that were served.
pub(crate) struct Timers {
    /// The time by which they were due.
    pub(crate) now: u64,
    /// The plugins whose timer failed.
    pub(crate) failed: Vec<Arc<str>>,
}

impl Observers {
    /// A plugin was asked.
    #[cold]
    pub(super) fn asked(
        &mut self,
        slot: SlotId,
        answer: &Result<Answer, Outcome>,
        fuel: Option<u64>,
    ) {
        if self.shadows.is_some() || !self.kernel.is_empty() {
            self.asked.push(Asked { slot, answer: answer.clone(), fuel });
        }
    }

    /// An access was answered with the host calls in `log`. Returns what the VMM must
    /// do.
    pub(super) fn answered(
        &mut self,
        access: MsrAccess,
        decision: Decision,
        timing: Timing,
        mut log: CallLog,
        vcpu: VcpuId,
        order: Option<Order<'_>>,
    ) -> Outcome {
        let of_vm = self.follow(Scope::Vm, access, &log, timing.took, vcpu);
        let answered = Answered {
            access,
            faults: decision.outcome == Outcome::Fault,
            failed: decision.failed,
        };
        let (by, decided) = (decision.by, decision.outcome.kind());
        let outcome = self.record(access, decision, timing, &mut log, vcpu);
        drop(order);
        let of_vcpu = self.follow(Scope::Vcpu, access, &log, timing.took, vcpu);
        self.kernel.follow(&self.asked, access, decided, timing.took, &*self.host, vcpu);
        self.asked.clear();
        if let Some(judge) = &self.judge {
            let plugin = by.and_then(|slot| self.names.get(usize::from(slot.0)));
            judge.answered(answered, plugin, of_vm.or(of_vcpu));
        }
        outcome
    }

    fn follow(
        &mut self,
        scope: Scope,
        access: MsrAccess,
        log: &CallLog,
        took: Duration,
        vcpu: VcpuId,
    ) -> Option<Compared> {
        let shadows = self.shadows.as_mut()?;
        let asked = self.asked.iter();
        // The last plugin that was asked decides.
        asked.filter_map(|asked| shadows.follow(scope, asked, access, log, took, vcpu)).last()
    }

    fn record(
        &self,
        access: MsrAccess,
        decision: Decision,
        Timing { began, took }: Timing,
        log: &mut CallLog,
        vcpu: VcpuId,
    ) -> Outcome {
        let Decision { outcome, by, failed } = decision;
        let Some(recorder) = &self.recorder else { return outcome };
        // KVM's answer belongs into the recording, so KVM is asked here, and the VMM
        // gets that answer as the outcome.
        let kernel = match (&outcome, access.op) {
            // KVM has refused it already.
            (Outcome::Kernel, _) if access.reason != Reason::Filter => None,
            (Outcome::Kernel, MsrOp::Read) => {
                self.host.kvm_msr(vcpu, access.index, Initiator::Guest)
            }
            (Outcome::Kernel, MsrOp::Write(value)) => {
                self.host.set_kvm_msr(vcpu, access.index, value, Initiator::Guest).then_some(value)
            }
            _ => None,
        };
        let completed = match outcome {
            Outcome::Kernel => match (kernel, access.op) {
                (Some(value), MsrOp::Read) => Outcome::Value(value),
                (Some(_), MsrOp::Write(_)) => Outcome::Done,
                (None, _) => Outcome::Fault,
            },
            _ => outcome.clone(),
        };
        let rip = self.host.guest_rip(vcpu);
        let plugin = by.and_then(|slot| self.names.get(usize::from(slot.0)).cloned());
        let calls = self.for_recorder(log);
        recorder.access(Box::new(AccessEvent {
            began,
            took,
            vcpu,
            generation: self.generation,
            access,
            rip,
            outcome,
            kernel,
            plugin,
            failed,
            calls,
        }));
        completed
    }

    /// The log for the recorder; a copy of it, if shadows need it as well.
    fn for_recorder(&self, log: &mut CallLog) -> CallLog {
        match self.shadows {
            Some(_) => log.clone(),
            None => mem::take(log),
        }
    }

    /// Timers that were due were served with the host calls in `log`.
    pub(super) fn woken(
        &mut self,
        began: Instant,
        Timers { now, failed }: Timers,
        mut log: CallLog,
        vcpu: VcpuId,
        order: Option<Order<'_>>,
    ) {
        let took = began.elapsed();
        if let (Some(judge), Some(plugin)) = (&self.judge, failed.first()) {
            judge.failed_in_timer(plugin);
        }
        let of_vm = self.wake_shadows(Scope::Vm, now, &log, vcpu);
        if let Some(recorder) = &self.recorder {
            let calls = self.for_recorder(&mut log);
            recorder.wake(Box::new(WakeEvent {
                began,
                took,
                vcpu,
                generation: self.generation,
                failed,
                calls,
            }));
        }
        drop(order);
        let of_vcpu = self.wake_shadows(Scope::Vcpu, now, &log, vcpu);
        if let Some(at) = of_vm.into_iter().chain(of_vcpu).min() {
            self.host.wake_at(vcpu, at);
        }
    }

    /// Says when the next timer of these shadows is due.
    fn wake_shadows(&mut self, scope: Scope, now: u64, log: &CallLog, vcpu: VcpuId) -> Option<u64> {
        let (next, differ) = self.shadows.as_mut()?.wake(scope, now, log, vcpu);
        if let Some(judge) = &self.judge {
            differ.iter().for_each(|plugin| judge.differed(Some(plugin), None));
        }
        next
    }

    /// A plugin failed in a report or a reset.
    pub(super) fn failed(&self, plugin: &Arc<str>) {
        if let Some(recorder) = &self.recorder {
            recorder.failed(plugin);
        }
    }

    /// The guest was reset, with the host calls in `log`.
    pub(super) fn reset(&mut self, log: &CallLog, vcpu: VcpuId) {
        if let Some(shadows) = &mut self.shadows {
            shadows.reset(log, vcpu);
        }
        self.kernel.reset();
    }

    /// No vCPU runs any more. To be called for each of them.
    pub(super) fn ended(&mut self, first: bool) {
        if let Some(shadows) = &mut self.shadows {
            shadows.settle_logs();
        }
        if let Some(recorder) = self.recorder.as_ref().filter(|_| first) {
            recorder.end();
        }
    }
}
