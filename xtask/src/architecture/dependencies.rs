//! Crates that may depend on a few others only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A crate's folder, and all that it may depend on.
const ONLY: &[(&str, &[&str])] =
    &[("host/interface", &["thiserror", "serde", "wasmsr-msrs"]), ("msr-table", &[])];

/// Adds every dependency that a crate must not have.
pub(super) fn check(root: &Path, breaches: &mut Vec<String>) -> Result<()> {
    for (folder, only) in ONLY {
        let path = root.join(folder).join("Cargo.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for dependency in dependencies(&text).filter(|name| !only.contains(name)) {
            let only = match only {
                [] => "nothing".to_owned(),
                only => format!("{} only", only.join(" and ")),
            };
            breaches.push(format!("{folder} depends on {dependency}, and may on {only}"));
        }
    }
    Ok(())
}

/// The dependencies of a manifest, but for those of tests and build scripts.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut in_table = false;
    manifest.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with('[') {
            in_table = line == "[dependencies]";
            // `[dependencies.serde]`
            return line.strip_prefix("[dependencies.")?.split(']').next();
        }
        let name = line.split(['.', '=']).next().map(str::trim);
        name.filter(|name| in_table && !name.is_empty() && !line.starts_with('#'))
    })
}
