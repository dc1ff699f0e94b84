//! Who looks on while a vCPU's accesses are answered: a recorder, shadows.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmsr_interface::{Host, MsrAccess, MsrOp, Outcome, VcpuId};

use crate::dispatch::Decision;
use crate::msr::SlotId;
use crate::order_lock::{OrderLock, Turn};
use crate::plugin::Scope;
use crate::record::call_log::{self, CallLog};
use crate::record::{Answered, Recorder, Woken};
use crate::shadow::{Asked, Shadows};
use crate::slot::Verdict;

/// The observers of one vCPU. The plugins' host calls are logged where there
/// are any.
pub(crate) struct Observers {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) order_lock: OrderLock,
    pub(crate) shadows: Option<Shadows>,
    /// Not logged.
    pub(crate) host: Arc<dyn Host>,
    /// The plugin in each slot.
    pub(crate) names: Arc<[Arc<str>]>,
    /// Who was asked for the present access.
    pub(crate) asked: Vec<Asked>,
}

/// When something came, and how long it took.
#[derive(Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Observers {
    /// A plugin was asked.
    pub(crate) fn saw(&mut self, slot: SlotId, verdict: &Verdict, fuel: Option<u64>) {
        if self.shadows.is_some() {
            self.asked.push(Asked { slot, verdict: verdict.clone(), fuel });
        }
    }

    /// An access was answered, in this turn. Returns what the VMM is told.
    pub(crate) fn answered(
        &mut self,
        access: MsrAccess,
        decision: Decision,
        timing: Timing,
        vcpu: VcpuId,
        turn: Option<Turn<'_>>,
    ) -> Outcome {
        let mut calls = call_log::take();
        self.follow(Scope::Vm, access, &calls, timing.took, vcpu);
        let told = self.record(access, decision, timing, &mut calls, vcpu);
        drop(turn);
        self.follow(Scope::Vcpu, access, &calls, timing.took, vcpu);
        self.asked.clear();
        told
    }

    fn follow(
        &mut self,
        scope: Scope,
        access: MsrAccess,
        calls: &CallLog,
        took: Duration,
        vcpu: VcpuId,
    ) {
        if let Some(shadows) = &mut self.shadows {
            for asked in &self.asked {
                shadows.follow(scope, asked, access, calls, took, vcpu);
            }
        }
    }

    fn record(
        &self,
        access: MsrAccess,
        decision: Decision,
        Timing { began, took }: Timing,
        calls: &mut CallLog,
        vcpu: VcpuId,
    ) -> Outcome {
        let Decision { outcome, by, failed } = decision;
        let Some(recorder) = &self.recorder else { return outcome };
        // What KVM does belongs into the recording, so it is asked here, and
        // the VMM is told how that ended.
        let kernel = match (&outcome, access.op) {
            (Outcome::Kernel, MsrOp::Read) => self.host.kvm_msr(vcpu, access.index),
            (Outcome::Kernel, MsrOp::Write(value)) => {
                self.host.set_kvm_msr(vcpu, access.index, value).then_some(value)
            }
            _ => None,
        };
        let told = match outcome {
            Outcome::Kernel => match (kernel, access.op) {
                (Some(value), MsrOp::Read) => Outcome::Value(value),
                (Some(_), MsrOp::Write(_)) => Outcome::Done,
                (None, _) => Outcome::Fault,
            },
            _ => outcome.clone(),
        };
        let plugin = by.and_then(|slot| self.names.get(usize::from(slot.0)).cloned());
        let calls = self.for_recorder(calls);
        recorder.answered(Box::new(Answered {
            began,
            took,
            vcpu,
            access,
            outcome,
            kernel,
            plugin,
            failed,
            calls,
        }));
        told
    }

    /// The recorder's calls, where shadows may want them as well.
    fn for_recorder(&self, calls: &mut CallLog) -> CallLog {
        match self.shadows {
            Some(_) => calls.clone(),
            None => mem::take(calls),
        }
    }

    /// Timers were served, in this turn, by the clock `now`.
    pub(crate) fn woken(&mut self, began: Instant, now: u64, vcpu: VcpuId, turn: Option<Turn<'_>>) {
        let took = began.elapsed();
        let mut calls = call_log::take();
        let of_vm = self.wake_shadows(Scope::Vm, now, &calls, vcpu);
        if let Some(recorder) = &self.recorder {
            let calls = self.for_recorder(&mut calls);
            recorder.woken(Box::new(Woken { began, took, vcpu, calls }));
        }
        drop(turn);
        let of_vcpu = self.wake_shadows(Scope::Vcpu, now, &calls, vcpu);
        if let Some(at) = of_vm.into_iter().chain(of_vcpu).min() {
            self.host.wake_at(vcpu, at);
        }
    }

    /// Says when the next of their timers is due.
    fn wake_shadows(
        &mut self,
        scope: Scope,
        now: u64,
        calls: &CallLog,
        vcpu: VcpuId,
    ) -> Option<u64> {
        self.shadows.as_mut()?.wake(scope, now, calls, vcpu)
    }

    /// The guest was reset.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) {
        let calls = call_log::take();
        if let Some(shadows) = &mut self.shadows {
            shadows.reset(&calls, vcpu);
        }
    }

    /// No vCPU runs any more.
    pub(crate) fn ended(&self) {
        call_log::take();
        if let Some(recorder) = &self.recorder {
            recorder.end();
        }
    }
}
