//! Where the statistics of a boot come from.

use wasmsr_engine::{Engine, Metrics, ShadowTallies, Started};

/// What counts while a boot runs.
#[derive(Clone)]
pub struct Sources {
    pub(crate) metrics: Metrics,
    pub(crate) shadows: ShadowTallies,
    /// The plugins in charge, with their versions.
    pub(crate) versions: Vec<(String, String)>,
    /// SHA-256 of the set, in hex.
    pub(crate) set: String,
}

impl Sources {
    /// Those of a set that is in charge of a running VM.
    pub fn of_live(sources: &wasmsr_engine::live::Sources) -> Self {
        let wasmsr_engine::live::Sources { engine, metrics, shadows } = sources;
        Sources {
            metrics: metrics.clone(),
            shadows: shadows.clone(),
            versions: versions(engine),
            set: engine.digest().to_string(),
        }
    }

    /// Those of an engine that has started its plugins for a boot.
    pub fn of(engine: &Engine, started: &Started) -> Self {
        Sources {
            metrics: started.metrics.clone(),
            shadows: started.shadows.clone(),
            versions: versions(engine),
            set: engine.digest().to_string(),
        }
    }
}

fn versions(engine: &Engine) -> Vec<(String, String)> {
    let versions = engine.plugins().map(|plugin| {
        let about = &plugin.manifest.plugin;
        (about.name.clone(), about.version.to_string())
    });
    versions.collect()
}
