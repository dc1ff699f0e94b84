//! Runs `cargo build` for Wasm, and puts the files in their place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use crate::crates::{PluginCrate, PluginCrates};
use crate::find::{TARGET, WasmToolchain};
use crate::stderr::say;

/// The cargo profile for plugins, in the workspace's manifest or cargo's
/// configuration.
const PROFILE: &str = "plugin";

/// Where cargo's messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// To standard error, at once.
    Shown,
    /// To standard error, if the build fails.
    OnFailure,
}

/// A built plugin, not yet where profiles look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The file.
    pub path: PathBuf,
    /// The name it gets there, `NAME.wasm`.
    pub file_name: String,
}

/// Why a plugin could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo could not be started.
    #[error("cannot run cargo: {0}; install Rust from https://rustup.rs")]
    NoCargo(io::Error),
    /// cargo failed, and has printed why.
    #[error("`cargo build --profile {PROFILE} --target {TARGET}` failed ({0})")]
    Failed(ExitStatus),
    /// A crate brings std to a target that has none.
    #[error(
        "the plugin has two panic handlers (E0152): one is the SDK's, the other is std's, which a \
         crate that it depends on brings; take that crate without its default features, such as \
         `serde = {{ version = \"1.0\", default-features = false, features = [\"alloc\", \
         \"derive\"] }}` in Cargo.toml (`cargo add serde` alone brings std)"
    )]
    TwoRuntimes,
    /// cargo succeeded, but there is no file.
    #[error("cargo built no {}: {cause}", .path.display())]
    NoFile {
        /// Where it should be.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file could not be put in its place.
    #[error("cannot write {}: {cause}", .path.display())]
    Publish {
        /// Its place.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
}

/// Builds `crates`, which belong to one workspace.
///
/// # Errors
/// [`BuildError`]
pub fn build(
    toolchain: &WasmToolchain,
    workspace: &PluginCrates,
    crates: &[&PluginCrate],
    output: Output,
) -> Result<Vec<Built>, BuildError> {
    // A folder apart from the host's builds, so that the two do not wait for each
    // other's lock or rebuild each other's files.
    let target = workspace.root.join("target/wasm");
    let mut cargo = toolchain.cargo_build();
    // cargo looks for its configuration, which has the linker's arguments, from the
    // current folder upwards.
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
        Output::Shown => {
            let status = cargo.stdout(Stdio::null()).status().map_err(BuildError::NoCargo)?;
            // What was shown cannot be read any more; it fails again where it has failed.
            let said = if status.success() { None } else { cargo.arg("--quiet").output().ok() };
            if said.is_some_and(|output| has_two_runtimes(&output.stderr)) {
                return Err(BuildError::TwoRuntimes);
            }
            status
        }
        Output::OnFailure => {
            let output = cargo.arg("--quiet").output().map_err(BuildError::NoCargo)?;
            if !output.status.success() {
                say(&output.stderr);
                if has_two_runtimes(&output.stderr) {
                    return Err(BuildError::TwoRuntimes);
                }
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

/// Whether the compiler found a second panic handler: "error[E0152]: found duplicate lang
/// item `panic_impl`".
fn has_two_runtimes(said: &[u8]) -> bool {
    let said = String::from_utf8_lossy(said);
    said.contains("E0152") && said.contains("panic_impl")
}

impl Built {
    /// The bytes of the file.
    ///
    /// # Errors
    /// [`BuildError::NoFile`]
    pub fn read(&self) -> Result<Vec<u8>, BuildError> {
        fs::read(&self.path).map_err(|cause| BuildError::NoFile { path: self.path.clone(), cause })
    }
}

/// Puts a built plugin into `folder`, where profiles look for it, and returns its path
/// there. A running VM may read the file at any moment, so it is replaced in one step;
/// an identical file is kept.
///
/// # Errors
/// [`BuildError::Publish`]
pub fn publish(file_name: &str, wasm: &[u8], folder: &Path) -> Result<PathBuf, BuildError> {
    let published = folder.join(file_name);
    if fs::symlink_metadata(&published).is_ok_and(|there| !there.is_file()) {
        let cause = io::Error::other("what is there is not a regular file; remove it");
        return Err(BuildError::Publish { path: published, cause });
    }
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

    /// As rustc 1.95 says it for a plugin after `cargo add serde`.
    #[test]
    fn a_second_panic_handler_is_recognised() {
        let said =
            b"error[E0152]: found duplicate lang item `panic_impl`\n  |\n  = note: the lang \
            item is first defined in crate `std` (which `serde` depends on)\n";
        assert!(has_two_runtimes(said));
        assert!(!has_two_runtimes(b"error[E0308]: mismatched types"));
    }

    #[test]
    fn a_link_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("elsewhere", folder.path().join("plugin.wasm")).unwrap();
        let error = publish("plugin.wasm", b"1", folder.path()).unwrap_err();
        assert!(error.to_string().contains("plugin.wasm"), "{error}");
        assert!(fs::symlink_metadata(folder.path().join("plugin.wasm")).unwrap().is_symlink());
    }

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
