//! Starts a profile's plugins for a VM, with their observers.

mod dispatches;
mod dry_run;
mod error;
mod plugins;
mod shadows;
mod slots;
mod started;
mod watch;

use std::sync::Arc;

pub(crate) use dispatches::{Common, dispatches};
pub use error::StartError;
pub(crate) use plugins::{StartCalls, start_plugins, start_slots};
pub(crate) use shadows::{StartedShadows, kernel_shadows, leaders, start as start_shadows};
pub use started::Started;
use wasmsr_interface::Host;
pub(crate) use watch::{Followers, Watch, Watchers};

use crate::engine::Engine;
use crate::record::{BootLine, BootPlugin, LoggingHost, Recorder, boot_line};

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
    if recorder.is_none() && engine.shadows.is_empty() && engine.kernel_shadows.is_empty() {
        let (started, _) = start_plugins(engine, &|_| host.clone(), vcpus)?;
        return Ok(started);
    }
    let (mut started, starts, shadows) = with_shadows(engine, host, vcpus)?;
    shadows.warn_of_absent();
    if let Some(recorder) = recorder {
        recorder.boot(boot_line_of(engine, vcpus));
        recorder.start(starts.all);
    }
    started.shadows = shadows.tallies;
    let watchers = Watchers { recorder, ..Watchers::default() };
    let watch = Watch::new(engine, host.clone(), 1, &watchers);
    for (vcpu, followers) in started.vcpus.iter_mut().zip(shadows.vcpus) {
        vcpu.chain.observers = watch.observers(followers);
    }
    Ok(started)
}

/// Starts the plugins and, beside them, their shadows.
fn with_shadows(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
) -> Result<(Started, StartCalls, StartedShadows), StartError> {
    let logging = |name: &Arc<str>| -> Arc<dyn Host> {
        Arc::new(LoggingHost::new(host.clone(), name.clone()))
    };
    let (started, starts) = start_plugins(engine, &logging, vcpus)?;
    let shadows = shadows::start(engine, host, vcpus, &starts);
    Ok((started, starts, shadows))
}

/// The first line of a recording of these plugins.
pub(crate) fn boot_line_of(engine: &Engine, vcpus: u32) -> BootLine {
    let kernel = engine.host_kernel.map(|kernel| kernel.to_string());
    boot_line(vcpus, kernel, boot_plugins(engine), &engine.profile)
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
