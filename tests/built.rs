//! The shipped plugins as they are built, which must not be older than their sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).expect("the command lies in host/cli")
}

/// Where `cargo xtask plugins` puts plugins.
pub(crate) fn plugins() -> PathBuf {
    workspace().join("target/plugins")
}

/// Says so where a built plugin, `NAME`, `c/NAME` or `wat/NAME`, is older than one
/// of its sources. There are none in the nested host, and none of a plugin that the
/// project no longer has, whose file may still lie there.
pub(crate) fn is_current(plugin: &str) -> Result<(), String> {
    match has_sources(plugin) {
        true => is_current_in(workspace(), plugin),
        false => Ok(()),
    }
}

/// The same in any workspace.
pub(crate) fn is_current_in(workspace: &Path, plugin: &str) -> Result<(), String> {
    let file = Path::new("target/plugins").join(plugin).with_extension("wasm");
    let Some(built) = modified(&workspace.join(&file)) else { return Ok(()) };
    let sources = sources(plugin).into_iter();
    let newest = sources.filter_map(|source| newest(&workspace.join(source))).max();
    match newest {
        Some((changed, source)) if changed > built => {
            let source = source.strip_prefix(workspace).unwrap_or(&source);
            Err(format!(
                "{} is older than {}; run `cargo xtask plugins`",
                file.display(),
                source.display()
            ))
        }
        _ => Ok(()),
    }
}

/// Whether the project has the sources of a built plugin.
fn has_sources(plugin: &str) -> bool {
    let own = sources(plugin).into_iter().filter(|source| source.contains(&own_name(plugin)));
    own.into_iter().any(|source| workspace().join(source).exists())
}

/// As the plugin's crate or file is called.
fn own_name(plugin: &str) -> String {
    match plugin.split_once('/') {
        Some((_, name)) => name.to_owned(),
        None => plugin.replace('_', "-"),
    }
}

/// What a plugin is made of; not all of it need be there.
fn sources(plugin: &str) -> Vec<String> {
    match plugin.split_once('/') {
        Some(("c", name)) => {
            let own = ["c", "toml"].map(|ending| format!("examples/c/{name}.{ending}"));
            own.into_iter().chain(["plugin-sdk/c".to_owned()]).collect()
        }
        Some((language, name)) => vec![format!("examples/{language}/{name}.{language}")],
        None => {
            let name = own_name(plugin);
            let own = ["plugins", "examples"].iter().flat_map(|folder| {
                ["Cargo.toml", "plugin.toml", "src"].map(|file| format!("{folder}/{name}/{file}"))
            });
            let shared = [
                "plugin-sdk/Cargo.toml",
                "plugin-sdk/src",
                "msr-table/build",
                "msr-table/data",
                "msr-table/src",
                "Cargo.lock",
                "Cargo.toml",
                ".cargo/config.toml",
            ];
            own.chain(shared.map(str::to_owned)).collect()
        }
    }
}

/// When a file, or the last of all files in a folder, has changed; and which it is.
fn newest(path: &Path) -> Option<(SystemTime, PathBuf)> {
    if path.is_dir() {
        let entries = fs::read_dir(path).ok()?.flatten();
        return entries.filter_map(|entry| newest(&entry.path())).max();
    }
    Some((modified(path)?, path.to_path_buf()))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
