//! Who waits for whom while somebody looks on: vCPUs take turns at what they
//! have in common, so that observers see accesses in the order in which they
//! were answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::MsrAccess;

use crate::claims::Answers;
use crate::engine::Engine;
use crate::plugin::Scope;
use crate::record::Recorder;
use crate::slot::SlotPlan;

/// Where turns are taken. All else needs no order but each vCPU's own.
#[derive(Clone)]
pub(crate) struct OrderLock {
    lock: SharedLock,
    /// Whether the plugin in each slot has something that vCPUs have in common.
    slots: Arc<[bool]>,
    /// Whether one of these may have timers.
    timers: bool,
}

pub(crate) type SharedLock = Arc<Mutex<()>>;

/// Held from before an access is answered until it was seen.
pub(crate) type Turn<'a> = MutexGuard<'a, ()>;

impl OrderLock {
    /// A recorder needs the order of whatever is the VM's: instances, and what
    /// exits. A shadow that is the VM's needs that of its leader's instance.
    pub(crate) fn new(engine: &Engine, recorder: Option<&Recorder>) -> Self {
        let led = |plan: &SlotPlan| {
            let mut shadows = engine.shadows.iter().filter(|s| s.of == plan.plugin.name);
            shadows.any(|shadow| shadow.scope() == Scope::Vm)
        };
        let common = |plan: &SlotPlan| {
            let is_shared = plan.scope == Scope::Vm;
            let recorded = recorder.is_some() && (is_shared || plan.plugin.held.intercept);
            recorded || (is_shared && led(plan))
        };
        let slots: Arc<[bool]> = engine.slots.iter().map(common).collect();
        let mut plans = engine.slots.iter().zip(&*slots);
        let timers = plans.any(|(plan, common)| *common && plan.plugin.held.timer);
        OrderLock { lock: Arc::default(), slots, timers }
    }

    /// The lock for an access, if it needs a turn.
    pub(crate) fn for_access(&self, answers: &Answers, access: MsrAccess) -> Option<SharedLock> {
        let is_common = |slot| self.slots.get(usize::from(slot)) == Some(&true);
        let needed = answers.asked(access).any(|slot| is_common(slot.0));
        needed.then(|| self.lock.clone())
    }

    /// The lock for timers, if they need a turn.
    pub(crate) fn for_timers(&self) -> Option<SharedLock> {
        self.timers.then(|| self.lock.clone())
    }
}

/// Waits for one's turn.
pub(crate) fn take(lock: &SharedLock) -> Turn<'_> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
