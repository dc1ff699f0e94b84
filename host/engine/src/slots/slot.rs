//! The place of a plugin in a vCPU's dispatch chain.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::VcpuId;

use super::supervised::SupervisedInstance;
use crate::manifest::Scope;
use crate::plugin::Plugin;

/// The plugin and the scope of a slot, before it has an instance.
#[derive(Clone)]
pub(crate) struct SlotPlan {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) scope: Scope,
}

/// One slot in a vCPU's dispatch chain.
#[expect(clippy::large_enum_variant, reason = "a box would be one more step on every access")]
pub(crate) enum Slot {
    /// This vCPU's own instance.
    Own(SupervisedInstance),
    /// The VM's one instance.
    Shared(Arc<Mutex<SupervisedInstance>>),
}

/// What came of serving a timer.
pub(crate) struct Woken {
    /// When the plugin's timer is next.
    pub(crate) next: Option<u64>,
    pub(crate) failed: bool,
}

impl Slot {
    /// Calls the plugin's timer on the thread of `vcpu`, if it is due.
    pub(crate) fn wake(&mut self, now: u64, vcpu: VcpuId) -> Woken {
        self.with(|instance| {
            let failed = instance.wake(now, vcpu);
            Woken { next: instance.timer(vcpu), failed }
        })
    }

    /// Brings the plugin to its state after a reset of the guest; the VM's own instances
    /// are reset with vCPU 0. Says whether the plugin failed.
    pub(crate) fn reset(&mut self, vcpu: VcpuId) -> bool {
        self.with(|instance| {
            (instance.scope().is_some() || vcpu == VcpuId(0)) && instance.reset(vcpu)
        })
    }

    /// Runs `f` with the instance, which no other vCPU uses meanwhile.
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
#[inline]
pub(crate) fn lock(instance: &Mutex<SupervisedInstance>) -> MutexGuard<'_, SupervisedInstance> {
    instance.lock().unwrap_or_else(PoisonError::into_inner)
}
