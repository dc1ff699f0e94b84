//! Who looks on while a vCPU's accesses are answered: a recorder, shadows.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::msr::{MsrAccess, MsrOp, Outcome, SeatId, VcpuId};
use crate::record::tape;
use crate::record::{Answered, Recorder, Woken};
use crate::seat::Verdict;
use crate::shadow::Shadows;
use crate::vcpu::Decision;

/// The onlookers of one vCPU. The plugins' host calls are taped where there
/// are any.
pub(crate) struct Watch {
    pub(crate) recorder: Option<Recorder>,
    /// Held from before an access is answered until the onlookers have seen
    /// it, where vCPUs have plugins in common: they see accesses in the order
    /// in which these plugins do.
    pub(crate) turn: Option<Arc<Mutex<()>>>,
    pub(crate) shadows: Option<Shadows>,
    /// Not taped.
    pub(crate) host: Arc<dyn Host>,
    /// The plugin in each seat.
    pub(crate) names: Arc<[Arc<str>]>,
    /// Who was asked for the present access, and what came of it.
    pub(crate) asked: Vec<(SeatId, Verdict)>,
}

impl Watch {
    /// A plugin was asked.
    pub(crate) fn saw(&mut self, seat: SeatId, verdict: &Verdict) {
        if self.shadows.is_some() {
            self.asked.push((seat, verdict.clone()));
        }
    }

    /// An access was answered. Returns what the VMM is told.
    pub(crate) fn answered(
        &mut self,
        access: MsrAccess,
        decision: Decision,
        began: Instant,
        took: Duration,
        vcpu: VcpuId,
    ) -> Outcome {
        let calls = tape::take();
        if let Some(shadows) = &mut self.shadows {
            for (seat, verdict) in self.asked.drain(..) {
                shadows.follow(seat, access, &verdict, &calls.calls, took, vcpu);
            }
        }
        let Some(recorder) = &self.recorder else { return decision.outcome };
        let Decision { outcome, by, failed } = decision;
        // What KVM answers belongs into the recording, so it is asked here,
        // and the VMM gets the answer.
        let (kernel, told) = match (&outcome, access.op) {
            (Outcome::Kernel, MsrOp::Read) => {
                let value = self.host.kvm_msr(vcpu, access.index);
                (value, value.map_or(Outcome::Fault, Outcome::Handled))
            }
            _ => (None, outcome.clone()),
        };
        let plugin = by.and_then(|seat| self.names.get(usize::from(seat.0)).cloned());
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

    /// Timers were served, by the clock `now`.
    pub(crate) fn woken(&mut self, began: Instant, now: u64, vcpu: VcpuId) {
        let took = began.elapsed();
        let calls = tape::take();
        if let Some(shadows) = &mut self.shadows
            && let Some(at) = shadows.wake(now, &calls.calls, vcpu)
        {
            self.host.wake_at(vcpu, at);
        }
        if let Some(recorder) = &self.recorder {
            recorder.woken(Box::new(Woken { began, took, vcpu, calls }));
        }
    }

    /// The guest was reset.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) {
        let calls = tape::take();
        if let Some(shadows) = &mut self.shadows {
            shadows.reset(&calls.calls, vcpu);
        }
    }

    /// No vCPU runs any more.
    pub(crate) fn ended(&self) {
        tape::take();
        if let Some(recorder) = &self.recorder {
            recorder.end();
        }
    }
}
