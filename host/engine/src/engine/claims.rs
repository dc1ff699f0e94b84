//! The plugins' claims held against each other.

use std::sync::Arc;

use wasmsr_interface::Direction;

use super::error::LoadError;
use super::listed::place_of;
use crate::plugin::Plugin;
use crate::profile::Profile;

/// Most pairs of plugins that are told.
const MOST: usize = 64;

/// What two plugins both claim, the first access of each pair, unless the later one is a
/// fallback.
pub(crate) fn double_claims(plugins: &[Arc<Plugin>], profile: &Profile) -> Vec<LoadError> {
    let mut errors = Vec::new();
    for (position, later) in plugins.iter().enumerate().filter(|(_, p)| !p.config.fallback) {
        for earlier in plugins.iter().take(position) {
            errors.extend(double_claim(earlier, later, profile));
            if errors.len() >= MOST {
                return errors;
            }
        }
    }
    errors
}

fn double_claim(
    earlier: &Arc<Plugin>,
    later: &Arc<Plugin>,
    profile: &Profile,
) -> Option<LoadError> {
    for a in &earlier.manifest.msr {
        for b in &later.manifest.msr {
            let direction = [Direction::Read, Direction::Write]
                .into_iter()
                .find(|&d| a.access.contains(d) && b.access.contains(d));
            if let (Some(direction), Some(range)) = (direction, a.range.intersection(b.range)) {
                let listed = [later, earlier].into_iter().find_map(|plugin| {
                    let place = place_of(profile, plugin, range)?;
                    Some(format!("take {range} out of {place} of `{}`", plugin.name))
                });
                return Some(LoadError::Claimed {
                    remedy: listed.unwrap_or_else(|| "take one out of the profile".to_owned()),
                    first: earlier.name.clone(),
                    second: later.name.clone(),
                    direction,
                    range,
                });
            }
        }
    }
    None
}
