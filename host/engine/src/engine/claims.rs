//! The plugins' claims held against each other.

use std::sync::Arc;

use wasmsr_interface::Direction;

use super::error::LoadError;
use crate::plugin::Plugin;

/// Most pairs of plugins that are told.
const MOST: usize = 64;

/// What two plugins both claim, the first access of each pair, unless the later one is a
/// fallback.
pub(crate) fn double_claims(plugins: &[Arc<Plugin>]) -> Vec<LoadError> {
    let mut errors = Vec::new();
    for (position, later) in plugins.iter().enumerate().filter(|(_, p)| !p.config.fallback) {
        for earlier in plugins.iter().take(position) {
            errors.extend(double_claim(earlier, later));
            if errors.len() >= MOST {
                return errors;
            }
        }
    }
    errors
}

fn double_claim(earlier: &Plugin, later: &Plugin) -> Option<LoadError> {
    for a in &earlier.manifest.msr {
        for b in &later.manifest.msr {
            let direction = [Direction::Read, Direction::Write]
                .into_iter()
                .find(|&d| a.access.contains(d) && b.access.contains(d));
            if let (Some(direction), Some(range)) = (direction, a.range.intersection(b.range)) {
                return Some(LoadError::Claimed {
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
