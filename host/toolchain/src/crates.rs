//! The plugin crates of a workspace, as cargo lists them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::cargo::cargo;

/// A workspace and its plugin crates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCrates {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// The crates that are plugins: those with a `cdylib`.
    pub crates: Vec<PluginCrate>,
}

/// A package that is a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCrate {
    /// The name of the package.
    pub package: String,
    /// The name of the file, without `.wasm`.
    pub file_stem: String,
    /// The folder of its `Cargo.toml`.
    pub folder: PathBuf,
}

/// Why cargo does not list the crates.
#[derive(Debug, thiserror::Error)]
pub enum CratesError {
    /// cargo could not be started.
    #[error("cannot run cargo: {0}; install Rust from https://rustup.rs")]
    NoCargo(io::Error),
    /// cargo refuses the crate.
    #[error("cargo refuses the crate: {0}")]
    Refused(String),
    /// cargo's answer cannot be read.
    #[error("the output of `cargo metadata` cannot be read: {0}")]
    Unreadable(String),
}

impl PluginCrates {
    /// Asks cargo for the workspace that `folder` belongs to. Needs no network.
    ///
    /// # Errors
    /// [`CratesError`]
    pub fn load(folder: &Path) -> Result<Self, CratesError> {
        let output = cargo()
            .current_dir(folder)
            .args(["metadata", "--no-deps", "--format-version=1"])
            .stdin(Stdio::null())
            .output()
            .map_err(CratesError::NoCargo)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(CratesError::Refused(one_line(&said)));
        }
        let unreadable = |why: &str| CratesError::Unreadable(why.to_owned());
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| unreadable(&error.to_string()))?;
        Self::of(&metadata).ok_or_else(|| unreadable("it names no workspace"))
    }

    /// Reads the output of `cargo metadata --no-deps`; `None` if it is something else.
    pub fn of(metadata: &Value) -> Option<Self> {
        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let crates = list(metadata, "packages").iter().filter_map(plugin_crate).collect();
        Some(PluginCrates { root, crates })
    }

    /// The folder of built plugins. Profiles name it, so it does not depend on
    /// `CARGO_TARGET_DIR`.
    pub fn plugins(&self) -> PathBuf {
        self.root.join("target/plugins")
    }
}

/// cargo's error on one line, without its warnings.
fn one_line(said: &str) -> String {
    let said = said.find("error: ").and_then(|at| said.get(at + "error: ".len()..)).unwrap_or(said);
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plugin_crate(package: &Value) -> Option<PluginCrate> {
    let is_cdylib = |target: &&Value| list(target, "crate_types").iter().any(|t| t == "cdylib");
    let target = list(package, "targets").iter().find(is_cdylib)?;
    Some(PluginCrate {
        package: text(package, "name")?.to_owned(),
        file_stem: text(target, "name")?.replace('-', "_"),
        folder: Path::new(text(package, "manifest_path")?).parent()?.to_owned(),
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugin_is_a_crate_with_a_cdylib() {
        let metadata = json!({
            "workspace_root": "/w",
            "packages": [
                {
                    "name": "my-plugin",
                    "manifest_path": "/w/a/Cargo.toml",
                    "targets": [{ "name": "my-plugin", "crate_types": ["cdylib"] }],
                },
                {
                    "name": "tool",
                    "manifest_path": "/w/b/Cargo.toml",
                    "targets": [{ "name": "tool", "crate_types": ["bin"] }],
                },
            ],
        });
        let crates = PluginCrates::of(&metadata).unwrap();
        let expected = PluginCrate {
            package: "my-plugin".into(),
            file_stem: "my_plugin".into(),
            folder: "/w/a".into(),
        };
        assert_eq!(crates.crates, [expected]);
        assert_eq!(crates.plugins(), Path::new("/w/target/plugins"));
    }

    #[test]
    fn an_error_of_cargo_becomes_a_line() {
        let said = "warning: w\nerror: failed to parse manifest\n\nCaused by:\n  no targets\n";
        assert_eq!(one_line(said), "failed to parse manifest Caused by: no targets");
    }
}
