//! Starts plugins with no guest behind them, to learn whether they take their
//! configurations.

use std::sync::Arc;

use wasmsr_interface::{Host, NoGuest, VcpuId};

use super::error::StartError;
use super::with_shadows;
use crate::engine::{Engine, intercepts};
use crate::manifest::Scope;
use crate::plugin::Surroundings;
use crate::slots::SupervisedInstance;

impl Engine {
    /// Brings every plugin to life for a VM of `vcpus` vCPUs with no guest in
    /// it, to learn whether it takes its configuration.
    ///
    /// # Errors
    /// As [`start`](Engine::start), and for shadows too.
    pub fn dry_run(&self, vcpus: u32) -> Result<(), StartError> {
        self.dry_run_all(vcpus).into_iter().next().map_or(Ok(()), Err)
    }

    /// As [`dry_run`](Engine::dry_run), with the refusals of all plugins. If there are any,
    /// no shadow was started.
    pub fn dry_run_all(&self, vcpus: u32) -> Vec<StartError> {
        let host: Arc<dyn Host> = Arc::new(NoGuest::default());
        let vm = Surroundings {
            host: host.clone(),
            intercepts: intercepts(&self.plugins, &self.policy),
            vcpus,
        };
        let mut errors = Vec::new();
        let mut refused: Vec<Arc<str>> = Vec::new();
        for plan in &self.slots {
            let instances = match plan.scope {
                Scope::Vm => vec![None],
                Scope::Vcpu => (0..vcpus).map(|vcpu| Some(VcpuId(vcpu))).collect(),
            };
            // One refusal of a plugin says enough.
            if refused.contains(&plan.plugin.name) {
                continue;
            }
            let mut instances = instances.into_iter();
            let error =
                instances.find_map(|scope| SupervisedInstance::new(&plan.plugin, &vm, scope).err());
            if let Some(error) = error {
                refused.push(plan.plugin.name.clone());
                errors.push(StartError::of(&plan.plugin, &error));
            }
        }
        if errors.is_empty() && !self.shadows.is_empty() {
            match with_shadows(self, &host, vcpus) {
                Ok((.., shadows)) => errors.extend(shadows.absent),
                Err(error) => errors.push(error),
            }
        }
        errors
    }
}
