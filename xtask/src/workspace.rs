//! Where things lie in the workspace, as cargo tells it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use wasmsr_toolchain::{PluginCrate, PluginCrates};

use crate::process;

/// The workspace that this chore belongs to.
pub(crate) struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    target: PathBuf,
    crates: PluginCrates,
    build: Build,
}

/// How `wasmsr` is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Build {
    Debug,
    Release,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        // `cargo run` sets the variable; the binary may be older than a move
        // of the checkout.
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask.parent().context("xtask lies in no folder")?.to_path_buf();
        let metadata = process::output_of(process::cargo().current_dir(&root).args([
            "metadata",
            "--no-deps",
            "--format-version=1",
        ]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata")?;
        let target = text(&metadata, "target_directory").context("cargo names no target folder")?;
        let crates = PluginCrates::of(&metadata).context("cargo names no workspace")?;
        Ok(Self { target: target.into(), crates, root, build: Build::Debug })
    }

    /// The same with the release build of `wasmsr`; tests and demo do without.
    pub(crate) fn in_release(self) -> Self {
        Self { build: Build::Release, ..self }
    }

    /// Builds the command.
    pub(crate) fn build_wasmsr(&self) -> Result<()> {
        let mut cargo = process::cargo();
        cargo.current_dir(&self.root).args(["build", "--package", "wasmsr"]);
        if self.build == Build::Release {
            cargo.arg("--release");
        }
        process::run(&mut cargo)
    }

    /// The command `wasmsr`, once it is built.
    pub(crate) fn wasmsr(&self) -> PathBuf {
        self.target.join(match self.build {
            Build::Debug => "debug/wasmsr",
            Build::Release => "release/wasmsr",
        })
    }

    /// Builds a target of a package, of the kind `test` or `bench`; returns the
    /// program that cargo's command of that name would run.
    pub(crate) fn build_harness(&self, kind: &str, package: &str, target: &str) -> Result<PathBuf> {
        let messages = process::output_of(
            process::cargo()
                .current_dir(&self.root)
                .args([kind, "--package", package, &format!("--{kind}"), target, "--no-run"])
                .arg("--message-format=json-render-diagnostics"),
        )?;
        let executable = |line: &str| {
            let message: Value = serde_json::from_str(line).ok()?;
            let path = text(&message, "executable")?;
            (message.pointer("/target/name")? == target).then(|| PathBuf::from(path))
        };
        let mut lines = messages.lines();
        lines.find_map(executable).with_context(|| format!("{package} has no {kind} {target}"))
    }

    /// Where built plugins lie.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.crates.plugins()
    }

    /// The members under `plugins/` and `examples/` that become a plugin.
    pub(crate) fn plugin_crates(&self) -> Vec<&PluginCrate> {
        let folders = [self.root.join("plugins"), self.root.join("examples")];
        let is_there =
            |plugin: &&PluginCrate| folders.iter().any(|folder| plugin.folder.starts_with(folder));
        self.crates.crates.iter().filter(is_there).collect()
    }

    /// Every crate of the workspace that could be a plugin.
    pub(crate) fn crates(&self) -> &PluginCrates {
        &self.crates
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}
