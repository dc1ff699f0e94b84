//! The plugins' claims held against each other.

use std::sync::Arc;

use wasmsr_interface::Direction;

use super::error::LoadError;
use crate::plugin::Plugin;

/// Refuses two plugins that claim the same access, unless the later one is a
/// fallback.
pub(crate) fn refuse_double_claims(plugins: &[Arc<Plugin>]) -> Result<(), LoadError> {
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
                        return Err(LoadError::Claimed {
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
