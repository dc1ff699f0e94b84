//! A shadow that was loaded.

use std::sync::Arc;

use crate::manifest::Scope;
use crate::plugin::Plugin;
use crate::slots::{Routes, SlotPlan};

/// A shadow, before it has instances.
pub(crate) struct ShadowPlan {
    pub(crate) plugin: Arc<Plugin>,
    /// The plugin in charge.
    pub(crate) of: Arc<str>,
    pub(crate) slots: Vec<SlotPlan>,
    pub(crate) routes: Arc<Routes>,
}

impl ShadowPlan {
    /// The scope of its instances: that of the VM, if one of them has it. The shadow
    /// then sees accesses in the order in which the plugin in charge sees them.
    pub(crate) fn scope(&self) -> Scope {
        match self.slots.iter().any(|slot| slot.scope == Scope::Vm) {
            true => Scope::Vm,
            false => Scope::Vcpu,
        }
    }
}
