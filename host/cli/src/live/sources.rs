//! Where the statistics of a boot come from.

use wasmsr_engine::{Engine, Metrics, ShadowTallies, Started};

/// What counts while a boot runs.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(super) metrics: Metrics,
    pub(super) shadows: ShadowTallies,
    /// The plugins in charge, with their versions.
    pub(super) versions: Vec<(String, String)>,
}

impl Sources {
    pub(crate) fn of(engine: &Engine, started: &Started) -> Self {
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
