//! What observes the accesses of a VM.

use std::mem;
use std::sync::Arc;

use wasmsr_interface::Host;

use crate::dispatch::{Observers, OrderLock};
use crate::engine::Engine;
use crate::record::Recorder;
use crate::shadow::{Judge, KernelShadows, ShadowPlan, Shadows};

/// What watches a set of plugins, beside the shadows that each vCPU has.
#[derive(Default)]
pub(crate) struct Watchers<'a> {
    pub(crate) recorder: Option<&'a Recorder>,
    pub(crate) judge: Option<&'a Arc<Judge>>,
    /// Former plugins, as shadows.
    pub(crate) former: &'a [ShadowPlan],
}

/// Makes the observers of each vCPU of a VM.
pub(crate) struct Watch {
    host: Arc<dyn Host>,
    names: Arc<[Arc<str>]>,
    generation: u64,
    recorder: Option<Recorder>,
    judge: Option<Arc<Judge>>,
    order_lock: OrderLock,
}

impl Watch {
    /// For the plugins of `engine`. `host` is the VMM's, not a logging one.
    pub(crate) fn new(
        engine: &Engine,
        host: Arc<dyn Host>,
        generation: u64,
        watchers: &Watchers<'_>,
    ) -> Self {
        let shadows: Vec<ShadowPlan> =
            engine.shadows.iter().chain(watchers.former).cloned().collect();
        Watch {
            host,
            names: engine.routes.names.clone(),
            generation,
            recorder: watchers.recorder.cloned(),
            judge: watchers.judge.cloned(),
            order_lock: OrderLock::new(&engine.slots, &shadows, watchers.recorder),
        }
    }

    /// The observers of a vCPU, if it has any.
    pub(crate) fn observers(&self, followers: Followers) -> Option<Box<Observers>> {
        let Followers { shadows, kernel } = followers;
        let is_followed = !shadows.0.is_empty() || !kernel.is_empty();
        if self.recorder.is_none() && self.judge.is_none() && !is_followed {
            return None;
        }
        Some(Box::new(Observers {
            recorder: self.recorder.clone(),
            order_lock: self.order_lock.clone(),
            shadows: Some(shadows).filter(|shadows| !shadows.0.is_empty()),
            kernel,
            host: self.host.clone(),
            names: self.names.clone(),
            asked: Vec::new(),
            generation: self.generation,
            judge: self.judge.clone(),
        }))
    }
}

/// What follows the accesses of a vCPU.
#[derive(Default)]
pub(crate) struct Followers {
    pub(crate) shadows: Shadows,
    pub(crate) kernel: KernelShadows,
}

impl Followers {
    /// Takes those of a vCPU.
    pub(crate) fn take(observers: &mut Option<Box<Observers>>) -> Self {
        let Some(observers) = observers else { return Followers::default() };
        Followers {
            shadows: observers.shadows.take().unwrap_or_default(),
            kernel: mem::take(&mut observers.kernel),
        }
    }
}
