//! What becomes of each plugin when one set takes over from another.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmsr_interface::CpuidChange;

use crate::engine::Engine;
use crate::plugin::Plugin;

/// What becomes of a plugin at a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The same file with the same configuration, grants and limits: its instances go on.
    Kept,
    /// The new one gets the state that the old one saves.
    Carried,
    /// The old one saves nothing, or had just failed: the new one starts afresh.
    Fresh,
    /// The old set does not have it.
    New,
    /// The new set does not have it.
    Gone,
}

/// The fates of all plugins, by name.
pub(super) type Fates = BTreeMap<Arc<str>, Fate>;

impl Fate {
    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Fate::Kept => "kept",
            Fate::Carried => "carried",
            Fate::Fresh => "fresh",
            Fate::New => "new",
            Fate::Gone => "gone",
        }
    }
}

/// The fates as far as they can be known before the old plugins have saved.
pub(super) fn fates(old: &Engine, new: &Engine) -> Fates {
    let mut fates = Fates::new();
    for plugin in &new.plugins {
        let fate = match old.plugins.iter().find(|other| other.name == plugin.name) {
            None => Fate::New,
            Some(other) if goes_on(other, plugin) => Fate::Kept,
            Some(_) => Fate::Carried,
        };
        fates.insert(plugin.name.clone(), fate);
    }
    for plugin in &old.plugins {
        fates.entry(plugin.name.clone()).or_insert(Fate::Gone);
    }
    fates
}

/// Whether an instance of the one may serve as an instance of the other.
pub(super) fn goes_on(old: &Plugin, new: &Plugin) -> bool {
    let (a, b) = (&old.config, &new.config);
    old.sha256 == new.sha256
        && a.config == b.config
        && a.grant == b.grant
        && a.on_failure == b.on_failure
        && a.fuel == b.fuel
        && a.memory == b.memory
        && a.shadow_of == b.shadow_of
}

/// Whether both sets want the same CPUID.
pub(super) fn same_cpuid(old: &[CpuidChange], new: &[CpuidChange]) -> bool {
    let values = |all: &[CpuidChange]| {
        let mut values: Vec<_> =
            all.iter().map(|c| (c.leaf, c.subleaf, [c.eax, c.ebx, c.ecx, c.edx])).collect();
        values.sort_by_key(|(leaf, subleaf, _)| (*leaf, *subleaf));
        values
    };
    values(old) == values(new)
}
