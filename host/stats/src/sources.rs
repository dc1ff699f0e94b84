//! Where the statistics of a boot come from.

use wasmsr_engine::{Engine, Metrics, ShadowTallies, Started};

/// What counts while a boot runs.
#[derive(Clone)]
pub struct Sources {
    pub(crate) metrics: Metrics,
    pub(crate) shadows: ShadowTallies,
    /// The plugins in charge, with their versions.
    pub(crate) versions: Vec<(String, String)>,
}

impl Sources {
    /// Those of an engine that has started its plugins for a boot.
    pub fn of(engine: &Engine, started: &Started) -> Self {
        let versions = engine.plugins().map(|plugin| {
            let about = &plugin.manifest.plugin;
            (about.name.clone(), about.version.to_string())
        });
        Sources {
            metrics: started.metrics.clone(),
            shadows: started.shadows.clone(),
            versions: versions.collect(),
        }
    }
}
