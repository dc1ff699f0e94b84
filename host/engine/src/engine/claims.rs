//! The plugins' claims held against each other.

use std::sync::Arc;

use wasmsr_interface::Direction;

use super::error::LoadError;
use super::listed::place_of;
use crate::plugin::Plugin;
use crate::profile::Profile;

/// Refuses two plugins that claim the same access, unless the later one is a
/// fallback.
pub(crate) fn refuse_double_claims(
    plugins: &[Arc<Plugin>],
    profile: &Profile,
) -> Result<(), LoadError> {
    for (position, later) in plugins.iter().enumerate().filter(|(_, p)| !p.config.fallback) {
        for earlier in plugins.iter().take(position) {
            for a in &earlier.manifest.msr {
                for b in &later.manifest.msr {
                    let direction = [Direction::Read, Direction::Write]
                        .into_iter()
                        .find(|&d| a.access.contains(d) && b.access.contains(d));
                    if let (Some(direction), Some(range)) =
                        (direction, a.range.intersection(b.range))
                    {
                        let listed = [later, earlier].into_iter().find_map(|plugin| {
                            let place = place_of(profile, plugin, range)?;
                            Some(format!("take {range} out of {place} of `{}`", plugin.name))
                        });
                        return Err(LoadError::Claimed {
                            remedy: listed
                                .unwrap_or_else(|| "take one out of the profile".to_owned()),
                            first: earlier.name.clone(),
                            second: later.name.clone(),
                            direction,
                            range,
                        });
                    }
                }
            }
        }
    }
    Ok(())
}
