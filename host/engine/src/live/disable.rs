//! Takes a plugin out of a running VM at once, whatever it does.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Release;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::cell::VcpuCell;
use super::error::NoSuchPlugin;
use super::vm::Live;
use crate::profile::OnFailure;

impl Live {
    /// Has `answer` given in place of a plugin from each vCPU's next access on. It never
    /// waits for a plugin: vCPUs see it before they answer an access. It lasts until
    /// [`enable`](Live::enable), or until another version of the plugin comes into charge.
    ///
    /// # Errors
    /// [`NoSuchPlugin`] with the names that there are.
    pub fn disable(&self, plugin: &str, answer: OnFailure) -> Result<(), NoSuchPlugin> {
        let name = self.in_charge(plugin)?;
        self.table().insert(name, answer);
        self.call_attention();
        Ok(())
    }

    /// Lets a plugin answer again, with the state that it had.
    ///
    /// # Errors
    /// [`NoSuchPlugin`] with the names that there are.
    pub fn enable(&self, plugin: &str) -> Result<(), NoSuchPlugin> {
        let name = self.in_charge(plugin)?;
        self.table().remove(&name);
        self.call_attention();
        Ok(())
    }

    /// What answers in place of plugins that were disabled.
    pub fn disabled(&self) -> BTreeMap<Arc<str>, OnFailure> {
        self.table().clone()
    }

    fn in_charge(&self, plugin: &str) -> Result<Arc<str>, NoSuchPlugin> {
        // Not those of `state`, which a swap may hold.
        let names = self.names();
        match names.iter().find(|name| ***name == *plugin) {
            Some(name) => Ok(name.clone()),
            None => {
                let names = names.iter().map(|name| format!("`{name}`"));
                let names = names.collect::<Vec<_>>().join(", ");
                Err(NoSuchPlugin { wanted: plugin.to_owned(), names })
            }
        }
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, OnFailure>> {
        self.0.disabled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn call_attention(&self) {
        self.0.attention.fetch_add(1, Release);
    }

    /// Has the slots of a vCPU answer as the table says.
    pub(super) fn apply_disabled(&self, cell: &VcpuCell) {
        let table = self.disabled();
        for slot in &mut cell.lock().dispatch.chain.slots {
            slot.with(|instance| {
                let answer = table.get(instance.name()).copied();
                if answer.is_some() || instance.is_disabled() {
                    instance.disable(answer);
                }
            });
        }
    }

    /// Another version of these plugins is in charge: it answers for itself.
    pub(super) fn forget_disabled(&self, plugins: impl Iterator<Item = Arc<str>>) {
        let mut table = self.table();
        for plugin in plugins {
            if table.remove(&plugin).is_some() {
                tracing::info!("plugin {plugin} was disabled; its new version is not");
            }
        }
    }
}
