//! Who waits for whom while somebody looks on: vCPUs take turns at what they
//! have in common, so that onlookers see accesses in the order in which they
//! were answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::MsrAccess;

use crate::claims::Answers;
use crate::engine::Engine;
use crate::plugin::Scope;
use crate::record::Recorder;
use crate::seat::SeatPlan;

/// Where turns are taken. All else needs no order but each vCPU's own.
#[derive(Clone)]
pub(crate) struct Turns {
    lock: TurnLock,
    /// Whether the plugin in each seat has something that vCPUs have in common.
    seats: Arc<[bool]>,
    /// Whether one of these may have timers.
    timers: bool,
}

pub(crate) type TurnLock = Arc<Mutex<()>>;

/// Held from before an access is answered until it was seen.
pub(crate) type Turn<'a> = MutexGuard<'a, ()>;

impl Turns {
    /// A recorder needs the order of whatever is the VM's: instances, and what
    /// exits. A shadow that is the VM's needs that of its leader's instance.
    pub(crate) fn new(engine: &Engine, recorder: Option<&Recorder>) -> Self {
        let led = |plan: &SeatPlan| {
            let mut shadows = engine.shadows.iter().filter(|s| s.of == plan.plugin.name);
            shadows.any(|shadow| shadow.scope() == Scope::Vm)
        };
        let common = |plan: &SeatPlan| {
            let is_shared = plan.scope == Scope::Vm;
            let recorded = recorder.is_some() && (is_shared || plan.plugin.held.intercept);
            recorded || (is_shared && led(plan))
        };
        let seats: Arc<[bool]> = engine.seats.iter().map(common).collect();
        let mut plans = engine.seats.iter().zip(&*seats);
        let timers = plans.any(|(plan, common)| *common && plan.plugin.held.timer);
        Turns { lock: Arc::default(), seats, timers }
    }

    /// The lock for an access, if it needs a turn.
    pub(crate) fn for_access(&self, answers: &Answers, access: MsrAccess) -> Option<TurnLock> {
        let is_common = |seat| self.seats.get(usize::from(seat)) == Some(&true);
        let needed = answers.asked(access).any(|seat| is_common(seat.0));
        needed.then(|| self.lock.clone())
    }

    /// The lock for timers, if they need a turn.
    pub(crate) fn for_timers(&self) -> Option<TurnLock> {
        self.timers.then(|| self.lock.clone())
    }
}

/// Waits for one's turn.
pub(crate) fn take(lock: &TurnLock) -> Turn<'_> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
