//! `cargo build` for Wasm, and what came of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use crate::crates::{PluginCrate, PluginCrates};
use crate::find::{TARGET, WasmToolchain};
use crate::say::say;

/// The cargo profile for plugins, in the workspace's manifest or cargo's
/// configuration.
const PROFILE: &str = "plugin";

/// What becomes of what cargo prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// It goes to standard error as it comes.
    Shown,
    /// It is shown only where the build fails.
    OnFailure,
}

/// A plugin as cargo built it, not yet where profiles look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The file.
    pub path: PathBuf,
    /// Its name there, `NAME.wasm`.
    pub file_name: String,
}

/// Why a plugin is not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo does not run.
    #[error("cannot run cargo: {0}; install Rust from https://rustup.rs")]
    NoCargo(io::Error),
    /// cargo fails; it has said why.
    #[error("`cargo build --profile {PROFILE} --target {TARGET}` failed ({0})")]
    Failed(ExitStatus),
    /// cargo is content, but there is no file.
    #[error("cargo built no {}: {cause}", .path.display())]
    NoFile {
        /// Where it should be.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file cannot be put in its place.
    #[error("cannot write {}: {cause}", .path.display())]
    Publish {
        /// Its place.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// Builds `crates`, which are of one workspace.
///
/// # Errors
/// [`BuildError`]
pub fn build(
    toolchain: &WasmToolchain,
    workspace: &PluginCrates,
    crates: &[&PluginCrate],
    output: Output,
) -> Result<Vec<Built>, BuildError> {
    // Apart from the host's target folder, so that the two do not wait for
    // each other's lock or rebuild each other's work.
    let target = workspace.root.join("target/wasm");
    let mut cargo = toolchain.cargo_build();
    // cargo looks for its configuration, where the linker's arguments are,
    // from the current folder upwards.
    let folder = match crates {
        [only] => &only.folder,
        _ => &workspace.root,
    };
    cargo
        .current_dir(folder)
        .stdin(Stdio::null())
        .args(["--profile", PROFILE, "--target", TARGET, "--target-dir"])
        .arg(&target);
    for plugin in crates {
        cargo.args(["--package", &plugin.package]);
    }
    let status = match output {
        Output::Shown => cargo.stdout(Stdio::null()).status().map_err(BuildError::NoCargo)?,
        Output::OnFailure => {
            let output = cargo.arg("--quiet").output().map_err(BuildError::NoCargo)?;
            if !output.status.success() {
                say(&output.stderr);
            }
            output.status
        }
    };
    if !status.success() {
        return Err(BuildError::Failed(status));
    }
    let folder = target.join(TARGET).join(PROFILE);
    let built = crates.iter().map(|plugin| {
        let file_name = format!("{}.wasm", plugin.file_stem);
        Built { path: folder.join(&file_name), file_name }
    });
    Ok(built.collect())
}

impl Built {
    /// The bytes that cargo made.
    ///
    /// # Errors
    /// [`BuildError::NoFile`]
    pub fn read(&self) -> Result<Vec<u8>, BuildError> {
        fs::read(&self.path).map_err(|cause| BuildError::NoFile { path: self.path.clone(), cause })
    }
}

/// Puts a built plugin into `folder`, where profiles look for it, and returns
/// its path there. A running VM may read the file at any moment, so it is
/// replaced in one step; one that is the same already stays.
///
/// # Errors
/// [`BuildError::Publish`]
pub fn publish(file_name: &str, wasm: &[u8], folder: &Path) -> Result<PathBuf, BuildError> {
    let published = folder.join(file_name);
    if !fs::read(&published).is_ok_and(|old| old == wasm) {
        let partial = folder.join(format!("{file_name}.{}", std::process::id()));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&partial, wasm))
            .and_then(|()| fs::rename(&partial, &published))
            .map_err(|cause| BuildError::Publish { path: published.clone(), cause })?;
    }
    Ok(published)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_is_the_same_stays() {
        let folder = tempfile::tempdir().unwrap();
        let plugins = folder.path().join("target/plugins");
        let published = publish("plugin.wasm", b"1", &plugins).unwrap();
        let written = fs::metadata(&published).unwrap().modified().unwrap();
        assert_eq!(publish("plugin.wasm", b"1", &plugins).unwrap(), published);
        assert_eq!(fs::metadata(&published).unwrap().modified().unwrap(), written);

        publish("plugin.wasm", b"2", &plugins).unwrap();
        assert_eq!(fs::read(&published).unwrap(), b"2");
        assert_eq!(fs::read_dir(&plugins).unwrap().count(), 1);
    }
}
