//! From an access to the slots that may answer it.

use std::sync::Arc;

use wasmsr_interface::{MsrAccess, Reason};

use super::slot::SlotPlan;
use crate::manifest::Scope;
use crate::msr::{Claim, MsrMap, SlotId};
use crate::plugin::Plugin;

/// From accesses to slots.
pub(crate) struct Routes {
    pub(crate) map: MsrMap,
    pub(crate) unknown: Vec<SlotId>,
    pub(crate) invalid: Vec<SlotId>,
    /// The plugin in each slot.
    pub(crate) names: Arc<[Arc<str>]>,
}

impl Routes {
    /// The slots that may be asked for an access, in their order: those that claim it,
    /// then those that want unhandled accesses.
    pub(crate) fn asked(&self, access: MsrAccess) -> impl Iterator<Item = SlotId> {
        let claimed = self.map.lookup(access.index, access.op.direction());
        claimed.iter().chain(self.unhandled(access.reason)).copied()
    }

    /// The slots that want unhandled accesses of this reason.
    pub(crate) fn unhandled(&self, reason: Reason) -> &[SlotId] {
        match reason {
            Reason::Filter => &[],
            Reason::Unknown => &self.unknown,
            Reason::Invalid => &self.invalid,
        }
    }
}

/// Gives each plugin a slot for each scope that it uses.
pub(crate) fn assign_slots(plugins: &[Arc<Plugin>]) -> (Vec<SlotPlan>, Vec<Claim>, Routes) {
    let mut slots: Vec<SlotPlan> = Vec::new();
    let mut slot_of = |plugin: &Arc<Plugin>, scope| {
        let taken = slots.iter().position(|s| Arc::ptr_eq(&s.plugin, plugin) && s.scope == scope);
        let position = taken.unwrap_or_else(|| {
            slots.push(SlotPlan { plugin: plugin.clone(), scope });
            slots.len() - 1
        });
        // A plugin has at most two slots, and the number of plugins is bounded.
        SlotId(u16::try_from(position).unwrap_or(u16::MAX))
    };
    let mut claims = Vec::new();
    let (mut unknown, mut invalid) = (Vec::new(), Vec::new());
    for plugin in plugins {
        for claim in &plugin.manifest.msr {
            claims.push(Claim {
                range: claim.range,
                directions: claim.access,
                slot: slot_of(plugin, claim.scope),
            });
        }
        // A plugin has an instance even if its profile lists nothing that exits: it may
        // refuse that, or do its work when it starts.
        for &scope in plugin.manifest.listed.iter().flat_map(|listed| &listed.instances) {
            slot_of(plugin, scope);
        }
        // Unhandled accesses go to the state that the plugin has anyway.
        let scopes = plugin.manifest.msr.iter().map(|claim| claim.scope);
        let only_vm = scopes.clone().count() > 0 && scopes.into_iter().all(|s| s == Scope::Vm);
        let own = if only_vm { Scope::Vm } else { Scope::Vcpu };
        let scope = plugin.manifest.unhandled.scope.unwrap_or(own);
        for &reason in &plugin.manifest.unhandled.reasons {
            let slot = slot_of(plugin, scope);
            match Reason::from(reason) {
                Reason::Unknown => unknown.push(slot),
                Reason::Invalid => invalid.push(slot),
                Reason::Filter => {}
            }
        }
    }
    let names = slots.iter().map(|plan| plan.plugin.name.clone()).collect();
    let routes = Routes { map: MsrMap::new(&claims), unknown, invalid, names };
    (slots, claims, routes)
}
