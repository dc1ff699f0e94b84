//! A shadow that was loaded.

use std::sync::Arc;

use crate::manifest::Scope;
use crate::plugin::Plugin;
use crate::slots::{Routes, SlotPlan, assign_slots};

/// A shadow, before it has instances.
#[derive(Clone)]
pub(crate) struct ShadowPlan {
    pub(crate) plugin: Arc<Plugin>,
    /// The plugin in charge.
    pub(crate) of: Arc<str>,
    pub(crate) slots: Vec<SlotPlan>,
    pub(crate) routes: Arc<Routes>,
}

impl ShadowPlan {
    /// A plugin that goes on as the shadow of the one that came after it.
    pub(crate) fn of_former(plugin: &Arc<Plugin>) -> Self {
        let about = &plugin.manifest.plugin;
        let name = format!("{} {} (former)", plugin.name, about.version);
        let named = Arc::new(Plugin::clone(plugin).named(name.into()));
        let (slots, _, routes) = assign_slots(std::slice::from_ref(plugin));
        ShadowPlan { plugin: named, of: plugin.name.clone(), slots, routes: Arc::new(routes) }
    }

    /// The scope of its instances: that of the VM, if one of them has it. The shadow
    /// then sees accesses in the order in which the plugin in charge sees them.
    pub(crate) fn scope(&self) -> Scope {
        match self.slots.iter().any(|slot| slot.scope == Scope::Vm) {
            true => Scope::Vm,
            false => Scope::Vcpu,
        }
    }
}
