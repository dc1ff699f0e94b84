//! Saves the state of a VM's plugins, and restores it.

mod recorded;

pub(crate) use recorded::Running;

use std::sync::Arc;

use wasmsr_interface::{ExitsCause, Host, VcpuId, counted};

use crate::dispatch::VcpuDispatch;
use crate::engine::Engine;
use crate::start::{StartError, Started};
use crate::state::{InstanceState, SavedState, SavedTimer};

/// Why the state of a VM's plugins is not saved.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{name}`: {why}")]
pub struct SaveError {
    pub(crate) name: Arc<str>,
    pub(crate) why: String,
}

/// Why saved state does not come back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A plugin does not even start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// State of a plugin that the profile does not have.
    #[error(
        "the saved state holds state of plugin `{name}`, which this profile does not load with that scope; load it, or save without it"
    )]
    NoPlugin {
        /// The plugin that saved.
        name: String,
    },
    /// Intercepts that the plugin's manifest does not claim.
    #[error(
        "the saved state holds intercepts of plugin `{name}` that it does not claim here; load the version that saved them, or save without them"
    )]
    NotClaimed {
        /// The plugin that saved.
        name: String,
    },
    /// State of a vCPU that this VM does not have.
    #[error(
        "the saved state holds state of plugin `{name}` for vCPU {vcpu}, but this VM has {}; give it as many as the one that was saved",
        counted(*count, "vCPU", "vCPUs")
    )]
    NoVcpu {
        /// The plugin that saved.
        name: String,
        /// The vCPU whose instance it was.
        vcpu: usize,
        /// vCPUs there are.
        count: usize,
    },
    /// A plugin refuses what it is given.
    #[error("plugin `{name}` does not take the state that its version {version} saved: {why}")]
    Refused {
        /// The plugin.
        name: String,
        /// The version that saved.
        version: String,
        /// The plugin's words, or its failure.
        why: String,
    },
    /// The VMM's filter does not take the saved intercepts.
    #[error("the saved intercepts cannot be restored: {0}")]
    Exits(String),
}

impl Engine {
    /// Saves the plugins of a VM. Its vCPUs must be out of the guest, with no
    /// access pending: KVM keeps the answer to one nowhere that can be saved.
    ///
    /// # Errors
    /// [`SaveError`] if a plugin does not save its state.
    pub fn save(&self, vcpus: &mut [VcpuDispatch]) -> Result<SavedState, SaveError> {
        self.save_from(vcpus, None)
    }

    /// Saves the plugins as [`save`](Engine::save) does, for those of another engine: a
    /// plugin that is older there is asked to write its state for that version.
    ///
    /// # Errors
    /// [`SaveError`] if a plugin does not save its state, or not for that version.
    pub fn save_for(
        &self,
        vcpus: &mut [VcpuDispatch],
        next: &Engine,
    ) -> Result<SavedState, SaveError> {
        self.save_from(vcpus, Some(next))
    }

    fn save_from(
        &self,
        vcpus: &mut [VcpuDispatch],
        next: Option<&Engine>,
    ) -> Result<SavedState, SaveError> {
        let now = vcpus.first().map_or(0, |vcpu| vcpu.vm.host.monotonic_ns());
        self.save_at(vcpus.iter_mut(), &Saving { chosen: &|_| true, next, now })
    }

    /// Saves the plugins of these vCPUs as `saving` says, and what they have turned on.
    pub(crate) fn save_at<'a>(
        &self,
        vcpus: impl Iterator<Item = &'a mut VcpuDispatch>,
        saving: &Saving<'_>,
    ) -> Result<SavedState, SaveError> {
        let mut saved = SavedState::default();
        let mut intercepts = None;
        for (position, vcpu) in vcpus.enumerate() {
            intercepts.get_or_insert_with(|| vcpu.vm.intercepts.clone());
            saving.save(vcpu, position == 0, &mut saved)?;
        }
        if let Some(intercepts) = intercepts {
            // Those of all others are their manifests'.
            let asks = |name: &str| {
                let mut plugins = self.plugins.iter();
                plugins.any(|p| *p.name == *name && p.held.intercept)
            };
            saved.intercepts = intercepts.save();
            saved.intercepts.retain(|it| asks(&it.plugin) && (saving.chosen)(&it.plugin));
        }
        Ok(saved)
    }

    pub(crate) fn version_of(&self, name: &str) -> Option<String> {
        let plugin = self.plugins.iter().find(|plugin| *plugin.name == *name)?;
        Some(plugin.manifest.plugin.version.to_string())
    }

    /// Starts the plugins as [`start`](Engine::start) does and gives each what
    /// it saved. A plugin that saved nothing starts afresh, and so do shadows. A
    /// timer that was pending is so again, unless the plugin has asked for another
    /// time meanwhile. What follows cannot be recorded.
    ///
    /// # Errors
    /// [`RestoreError`] if a state belongs to no plugin or vCPU here, or a
    /// plugin refuses it.
    pub fn restore(
        &self,
        host: &Arc<dyn Host>,
        vcpus: u32,
        saved: &SavedState,
    ) -> Result<Started, RestoreError> {
        let mut started = self.start(host, vcpus)?;
        self.restore_at(&mut started, &**host, saved, host.monotonic_ns())?;
        Ok(started)
    }

    /// Gives plugins that have just started what was saved, as if that had been `now`.
    pub(crate) fn restore_at(
        &self,
        started: &mut Started,
        host: &dyn Host,
        saved: &SavedState,
        now: u64,
    ) -> Result<(), RestoreError> {
        if let Some(vcpu) = started.vcpus.first() {
            let manifest = |name: &str| {
                let mut plugins = self.plugins.iter();
                plugins.find(|plugin| *plugin.name == *name).map(|plugin| &plugin.manifest)
            };
            let restored = vcpu.vm.intercepts.restore(&saved.intercepts, manifest);
            restored.map_err(|name| RestoreError::NotClaimed { name })?;
            if vcpu.chain.switches.is_some() {
                let told = vcpu.vm.intercepts.tell(host, &ExitsCause::Restore);
                told.map_err(|error| RestoreError::Exits(error.to_string()))?;
            }
        }
        for state in &saved.instances {
            restore_one(&mut started.vcpus, state)?;
        }
        for timer in &saved.timers {
            // A plugin that is gone needs none.
            restore_timer(&mut started.vcpus, timer, now);
        }
        Ok(())
    }
}

/// Which plugins are saved, and for what.
pub(crate) struct Saving<'a> {
    /// Says so by their names.
    pub(crate) chosen: &'a dyn Fn(&str) -> bool,
    /// The engine that is to restore them, if it may have older versions.
    pub(crate) next: Option<&'a Engine>,
    /// On the host's monotonic clock; timers are due after it.
    pub(crate) now: u64,
}

impl Saving<'_> {
    /// Adds the plugins of a vCPU to what is saved. The VM's own instances are saved with
    /// the `first` one.
    pub(crate) fn save(
        &self,
        vcpu: &mut VcpuDispatch,
        first: bool,
        saved: &mut SavedState,
    ) -> Result<(), SaveError> {
        let served = vcpu.chain.vcpu;
        for slot in &mut vcpu.chain.slots {
            let own = slot.with(|instance| {
                let is_here = instance.scope().is_some() || first;
                if !is_here || !(self.chosen)(instance.name()) {
                    return Ok((None, None));
                }
                let version = self.next.and_then(|next| next.version_of(instance.name()));
                let state = instance.save(served, version.as_deref()).map_err(|error| {
                    SaveError { name: instance.name().clone(), why: error.to_string() }
                })?;
                let timer = instance.pending_timer().map(|(thread, at)| SavedTimer {
                    plugin: instance.name().to_string(),
                    vcpu: instance.scope().map(|vcpu| vcpu.0),
                    thread: thread.0,
                    in_ns: at.saturating_sub(self.now),
                });
                Ok((state, timer))
            });
            let (state, timer) = own?;
            saved.instances.extend(state);
            saved.timers.extend(timer);
        }
        Ok(())
    }
}

/// Sets a timer again. Says whether there is an instance that waits for one then.
pub(crate) fn restore_timer(vcpus: &mut [VcpuDispatch], timer: &SavedTimer, now: u64) -> bool {
    let threads = u32::try_from(vcpus.len()).unwrap_or(u32::MAX);
    let own = usize::try_from(timer.vcpu.unwrap_or(0)).unwrap_or(usize::MAX);
    let scope = timer.vcpu.map(VcpuId);
    // A smaller VM may lack the thread on which the VM's own instance asked.
    let thread = VcpuId(if timer.thread < threads { timer.thread } else { 0 });
    let mut slots = vcpus.get_mut(own).into_iter().flat_map(|vcpu| &mut vcpu.chain.slots);
    slots.any(|slot| {
        slot.with(|instance| {
            let is_its = **instance.name() == *timer.plugin && instance.scope() == scope;
            if is_its {
                instance.take_over_timer(thread, now.saturating_add(timer.in_ns));
            }
            is_its && instance.pending_timer().is_some()
        })
    })
}

/// Gives a state to the instance that it is of.
pub(crate) fn restore_one(
    vcpus: &mut [VcpuDispatch],
    state: &InstanceState,
) -> Result<(), RestoreError> {
    let name = &state.plugin;
    let count = vcpus.len();
    let vcpu = usize::try_from(state.vcpu.unwrap_or(0)).unwrap_or(usize::MAX);
    let Some(vcpu) = vcpus.get_mut(vcpu) else {
        return Err(RestoreError::NoVcpu { name: name.clone(), vcpu, count });
    };
    let scope = state.vcpu.map(VcpuId);
    let served = vcpu.chain.vcpu;
    for slot in &mut vcpu.chain.slots {
        let restored = slot.with(|instance| {
            let is_its = **instance.name() == **name && instance.scope() == scope;
            is_its.then(|| instance.restore(state, served))
        });
        match restored {
            None => {}
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) => {
                return Err(RestoreError::Refused {
                    name: name.clone(),
                    version: state.version.clone(),
                    why: error.to_string(),
                });
            }
        }
    }
    Err(RestoreError::NoPlugin { name: name.clone() })
}
