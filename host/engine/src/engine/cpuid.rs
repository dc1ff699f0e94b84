//! What plugins and profile change in CPUID, held against each other.

use std::sync::Arc;

use wasmsr_interface::CpuidChange;

use crate::manifest::{self, AskedCpuid, CpuidRefused, CpuidSource};
use crate::plugin::Plugin;
use crate::profile::{Profile, ProfileCpuid};

/// The changes of all plugins, then those of the profile.
pub(super) fn changes(
    plugins: &[Arc<Plugin>],
    profile: &Profile,
) -> Result<Vec<CpuidChange>, CpuidRefused> {
    let of_plugins = plugins.iter().flat_map(|plugin| {
        plugin.manifest.cpuid.iter().map(|leaf| AskedCpuid {
            source: CpuidSource::Plugin(plugin.name.clone()),
            leaf: leaf.leaf,
            subleaf: leaf.subleaf,
            // Contradictions within one register were refused with the manifest.
            registers: leaf.registers().map(|(_, spec)| spec.change().unwrap_or_default()),
        })
    });
    manifest::merge_cpuid(of_plugins.chain(profile.cpuid.iter().map(ProfileCpuid::asked)))
}
