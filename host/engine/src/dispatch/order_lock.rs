//! Orders accesses to what vCPUs have in common, so that observers see accesses in
//! the order in which they were answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::MsrAccess;

use crate::manifest::Scope;
use crate::record::Recorder;
use crate::shadow::ShadowPlan;
use crate::slots::{Routes, SlotPlan};

/// Which accesses need an order among vCPUs. All others have the order of their vCPU
/// alone.
#[derive(Clone)]
pub(crate) struct OrderLock {
    lock: Arc<Mutex<()>>,
    /// For each slot, whether vCPUs have something in common there.
    slots: Arc<[bool]>,
    /// Whether one of these slots may have timers.
    timers: bool,
}

/// Held from before an access is answered until its observers have seen it.
pub(super) type Order<'a> = MutexGuard<'a, ()>;

impl OrderLock {
    /// A recorder needs the order of everything that is the VM's: instances, and what
    /// exits. A shadow that is the VM's needs the order of the instance that it follows.
    pub(crate) fn new(
        slots: &[SlotPlan],
        shadows: &[ShadowPlan],
        recorder: Option<&Recorder>,
    ) -> Self {
        let is_followed = |plan: &SlotPlan| {
            let mut shadows = shadows.iter().filter(|shadow| shadow.of == plan.plugin.name);
            shadows.any(|shadow| shadow.scope() == Scope::Vm)
        };
        let is_common = |plan: &SlotPlan| {
            let is_shared = plan.scope == Scope::Vm;
            let recorded = recorder.is_some() && (is_shared || plan.plugin.held.intercept);
            recorded || (is_shared && is_followed(plan))
        };
        let common: Arc<[bool]> = slots.iter().map(is_common).collect();
        let mut plans = slots.iter().zip(&*common);
        let timers = plans.any(|(plan, common)| *common && plan.plugin.held.timer);
        OrderLock { lock: Arc::default(), slots: common, timers }
    }

    /// The lock for an access, if it needs an order.
    pub(super) fn for_access(&self, routes: &Routes, access: MsrAccess) -> Option<Arc<Mutex<()>>> {
        let is_common = |slot| self.slots.get(usize::from(slot)) == Some(&true);
        let needed = routes.asked(access).any(|slot| is_common(slot.0));
        needed.then(|| self.lock.clone())
    }

    /// The lock for timers, if they need an order.
    pub(super) fn for_timers(&self) -> Option<Arc<Mutex<()>>> {
        self.timers.then(|| self.lock.clone())
    }
}

/// Waits until no other vCPU holds the lock.
pub(super) fn take(lock: &Arc<Mutex<()>>) -> Order<'_> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
