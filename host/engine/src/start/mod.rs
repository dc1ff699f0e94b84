//! Starts a profile's plugins for a VM, with their observers.

mod dry_run;
mod error;
mod plugins;
mod shadows;
mod slots;
mod started;

use std::sync::Arc;

pub use error::StartError;
pub(crate) use plugins::{StartCalls, start_plugins};
pub(crate) use shadows::{StartedShadows, kernel_shadows, start as start_shadows};
pub use started::Started;
use wasmsr_interface::Host;

use crate::dispatch::{Observers, OrderLock};
use crate::engine::Engine;
use crate::record::{BootPlugin, LoggingHost, Recorder, boot_line};
use crate::shadow::{KernelShadows, ShadowTallies};

impl Engine {
    /// Brings every plugin to life for a VM of `vcpus` vCPUs. A shadow that does
    /// not start is left out: the log says why, and its counts have a failure.
    ///
    /// # Errors
    /// [`StartError`] for the first plugin, but for shadows, that refuses its
    /// configuration, traps in `init`, or does not fit its limits.
    pub fn start(&self, host: &Arc<dyn Host>, vcpus: u32) -> Result<Started, StartError> {
        observed(self, host, vcpus, None)
    }

    /// As [`start`](Engine::start), with everything recorded but
    /// [`VcpuDispatch::reset`](crate::VcpuDispatch::reset): a replay does not know of resets.
    ///
    /// # Errors
    /// As [`start`](Engine::start).
    pub fn start_recorded(
        &self,
        host: &Arc<dyn Host>,
        vcpus: u32,
        recorder: &Recorder,
    ) -> Result<Started, StartError> {
        observed(self, host, vcpus, Some(recorder))
    }
}

/// Starts plugins that a guest will use: recorded, and with their shadows. A shadow
/// that does not start is left out.
fn observed(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    recorder: Option<&Recorder>,
) -> Result<Started, StartError> {
    let (started, absent) = all(engine, host, vcpus, recorder)?;
    for error in absent {
        tracing::warn!("{error}; the VM runs without this shadow");
    }
    Ok(started)
}

/// Starts everything. Says why shadows did not start.
fn all(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    recorder: Option<&Recorder>,
) -> Result<(Started, Vec<StartError>), StartError> {
    if recorder.is_none() && engine.shadows.is_empty() && engine.kernel_shadows.is_empty() {
        let (started, _) = start_plugins(engine, &|_| host.clone(), vcpus)?;
        return Ok((started, Vec::new()));
    }
    let logging = |name: &Arc<str>| -> Arc<dyn Host> {
        Arc::new(LoggingHost::new(host.clone(), name.clone()))
    };
    let (mut started, starts) = start_plugins(engine, &logging, vcpus)?;
    let mut shadows = shadows::start(engine, host, vcpus, &starts);
    let (mut kernel, tallies) = shadows::kernel_shadows(engine, vcpus);
    started.shadows = ShadowTallies([shadows.tallies, tallies].concat());
    if let Some(recorder) = recorder {
        let kernel = engine.host_kernel.map(|kernel| kernel.to_string());
        recorder.boot(boot_line(vcpus, kernel, boot_plugins(engine), &engine.profile));
        recorder.start(starts.all);
    }
    let order_lock = OrderLock::new(&engine.slots, &engine.shadows, recorder);
    for vcpu in started.vcpus.iter_mut().rev() {
        vcpu.chain.observers = Some(Box::new(Observers {
            recorder: recorder.cloned(),
            order_lock: order_lock.clone(),
            shadows: shadows.vcpus.pop().filter(|shadows| !shadows.0.is_empty()),
            kernel: KernelShadows::new(kernel.pop().unwrap_or_default()),
            host: host.clone(),
            names: engine.routes.names.clone(),
            asked: Vec::new(),
            generation: 1,
            judge: None,
        }));
    }
    Ok((started, shadows.absent))
}

/// What a recording says of the plugins.
pub(crate) fn boot_plugins(engine: &Engine) -> Vec<BootPlugin> {
    let plugins = engine.plugins().map(|plugin| BootPlugin {
        name: plugin.manifest.plugin.name.clone(),
        version: plugin.manifest.plugin.version.to_string(),
        sha256: plugin.sha256.to_string(),
        path: plugin.config.path.clone(),
        replaced_by: plugin.config.replaced_by.clone(),
    });
    plugins.collect()
}
