//! What a plugin's file says about itself, as JSON and for the tables of `build` and
//! `inspect`.

use std::path::Path;

use serde::Serialize;
use wasmsr_engine::plugin::Inspection;

use super::asks::Asks;

/// A plugin's file.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    pub(super) abi: u32,
    #[serde(flatten)]
    pub(super) asks: Asks,
    /// The manifest's text.
    pub(super) manifest: String,
    pub(super) exports: Vec<Item>,
    pub(super) imports: Vec<Item>,
}

/// An export or an import.
#[derive(Serialize)]
pub(super) struct Item {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
}

impl Report {
    pub(super) fn new(path: &Path, inspection: &Inspection) -> Self {
        let about = &inspection.manifest.plugin;
        let items = |pairs: &[(String, String)]| {
            let items = pairs.iter().cloned();
            items.map(|(name, ty)| Item { name, ty }).collect()
        };
        Report {
            name: about.name.clone(),
            version: about.version.to_string(),
            path: path.display().to_string(),
            size: inspection.size,
            sha256: inspection.sha256.to_string(),
            abi: about.abi,
            asks: Asks::of(&inspection.manifest),
            manifest: inspection.manifest_text.clone(),
            exports: items(&inspection.exports),
            imports: items(&inspection.imports),
        }
    }
}
