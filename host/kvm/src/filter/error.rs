//! Why an exit list does not fit KVM's filter, with what to do.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmsr_interface::{ExitClaim, ExitList, MsrIndex, MsrRange, Unclaimed};

use super::limits::{LAST_MSR, MAX_MSRS_PER_RANGE, MAX_RANGES, highest, x2apic};

/// Why an exit list does not fit KVM's filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A claim on MSRs that KVM handles before it looks at the filter.
    #[error(
        "plugin `{plugin}` claims {range}, but KVM never filters the x2APIC MSRs \
         0x800-0x8ff, so they cannot exit; take {part} out of the plugin's manifest"
    )]
    X2Apic {
        /// The plugin that claims them.
        plugin: Arc<str>,
        /// Its claim.
        range: MsrRange,
        /// The x2APIC MSRs in it.
        part: MsrRange,
    },
    /// A claim on the MSR that no range of a filter can hold.
    #[error(
        "plugin `{plugin}` claims {range}, but no range of KVM's filter can hold 0xffffffff, \
         so it cannot exit; take 0xffffffff out of the plugin's \
         manifest"
    )]
    Highest {
        /// The plugin that claims it.
        plugin: Arc<str>,
        /// Its claim.
        range: MsrRange,
    },
    /// More or wider claims than 16 ranges can hold.
    #[error(
        "the MSRs of {} do not fit into KVM's filter of {MAX_RANGES} ranges of at most \
         {MAX_MSRS_PER_RANGE} MSRs: {MAX_RANGES} ranges end before {at}, which plugin `{plugin}` \
         claims with {range}; claim fewer MSRs, or MSRs that lie closer together",
        plugin_list(.plugins)
    )]
    TooScattered {
        /// Every plugin that claims MSRs, by name.
        plugins: BTreeSet<Arc<str>>,
        /// The first MSR, in order of index, that found no place.
        at: MsrIndex,
        /// A plugin that claims it.
        plugin: Arc<str>,
        /// That plugin's claim.
        range: MsrRange,
    },
    /// The MSR that no range of a filter can hold is to stay in the kernel.
    #[error(
        "[msr] `allow` lists {range}, but no range of KVM's filter can hold 0xffffffff, so it \
         exits whatever is listed; end the range at 0xfffffffe"
    )]
    HighestAllowed {
        /// What is listed.
        range: MsrRange,
    },
    /// More or wider ranges stay in the kernel than 16 ranges can hold.
    #[error(
        "what [msr] `allow` lists does not fit into KVM's filter of {MAX_RANGES} ranges of at \
         most {MAX_MSRS_PER_RANGE} MSRs: {MAX_RANGES} ranges end before {at}, which `allow` lists \
         with {range}; list fewer MSRs, or MSRs that lie closer together{}",
        cutting(.plugins)
    )]
    AllowedTooScattered {
        /// The first MSR, in order of index, that found no place.
        at: MsrIndex,
        /// What is listed there.
        range: MsrRange,
        /// The plugins that claim MSRs of the list, by name.
        plugins: BTreeSet<Arc<str>>,
    },
}

impl PackError {
    /// The plugin and the claim that it is about; `None` if it is about the list of what
    /// is allowed.
    pub fn claim(&self) -> Option<(&Arc<str>, MsrRange)> {
        match self {
            PackError::X2Apic { plugin, range, .. }
            | PackError::Highest { plugin, range, .. }
            | PackError::TooScattered { plugin, range, .. } => Some((plugin, *range)),
            PackError::HighestAllowed { .. } | PackError::AllowedTooScattered { .. } => None,
        }
    }

    /// The MSRs of that claim for which there is no place, if they are known one by one.
    pub fn misfits(&self) -> Option<MsrRange> {
        match self {
            PackError::X2Apic { part, .. } => Some(*part),
            PackError::Highest { .. } => Some(highest().into()),
            _ => None,
        }
    }
}

/// Everything in `exits` that no filter can do, however few ranges it needs.
pub(super) fn impossible(exits: &ExitList) -> Vec<PackError> {
    let mut errors = Vec::new();
    for claim in &exits.claims {
        let ExitClaim { plugin, range, .. } = claim;
        if let Some(part) = range.intersection(x2apic()) {
            errors.push(PackError::X2Apic { plugin: plugin.clone(), range: *range, part });
        }
        // Where all else exits, this one does as well.
        if exits.unclaimed == Unclaimed::Kernel && range.contains(highest()) {
            errors.push(PackError::Highest { plugin: plugin.clone(), range: *range });
        }
    }
    if let Unclaimed::Exit(allowed) = &exits.unclaimed {
        let highest = allowed.iter().filter(|one| one.range.contains(highest()));
        errors.extend(highest.map(|one| PackError::HighestAllowed { range: one.range }));
    }
    // The directions of a claim may be claims of their own.
    let mut told = Vec::new();
    errors.retain(|error| {
        !told.contains(error) && {
            told.push(error.clone());
            true
        }
    });
    errors
}

/// The list needs too many ranges; the first MSR without a place is `at`.
pub(super) fn too_scattered(exits: &ExitList, at: u32) -> PackError {
    let at = MsrIndex(at.min(LAST_MSR));
    let plugins = exits.claims.iter();
    match &exits.unclaimed {
        Unclaimed::Kernel => {
            let (plugin, range) = plugins
                .clone()
                .find(|claim| claim.range.contains(at))
                .map_or_else(|| (Arc::from("?"), at.into()), |c| (c.plugin.clone(), c.range));
            let plugins = plugins.map(|claim| claim.plugin.clone()).collect();
            PackError::TooScattered { plugins, at, plugin, range }
        }
        Unclaimed::Exit(allowed) => {
            let range = allowed.iter().find(|one| one.range.contains(at));
            let cuts = |claim: &&ExitClaim| {
                allowed.iter().any(|one| one.range.intersection(claim.range).is_some())
            };
            PackError::AllowedTooScattered {
                at,
                range: range.map_or(at.into(), |one| one.range),
                plugins: plugins.filter(cuts).map(|claim| claim.plugin.clone()).collect(),
            }
        }
    }
}

fn plugin_list(plugins: &BTreeSet<Arc<str>>) -> String {
    let names: Vec<String> = plugins.iter().map(|name| format!("`{name}`")).collect();
    let word = if names.len() == 1 { "plugin" } else { "plugins" };
    format!("{word} {}", names.join(", "))
}

/// What claims have to do with a list of what is allowed.
fn cutting(plugins: &BTreeSet<Arc<str>>) -> String {
    match plugins.is_empty() {
        true => String::new(),
        false => format!(
            "; the claims of {} on listed MSRs take room as well, most of all those of one \
             direction",
            plugin_list(plugins)
        ),
    }
}
