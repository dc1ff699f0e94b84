//! What a verb is about: a plugin's crate, which is built, or a built file.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use wasmsr_engine::plugin::{self, Inspection, Manifest};
use wasmsr_toolchain::{Output, PluginCrates, WasmToolchain, build, publish};

use crate::exit::Failure;

/// A plugin on disk.
pub(super) struct Subject {
    /// The `.wasm` file, where profiles look for it.
    pub(super) wasm: PathBuf,
    /// What traces and profiles lie in: the crate, or the file's folder.
    pub(super) folder: PathBuf,
    /// What the file says about itself.
    pub(super) inspection: Inspection,
}

impl Subject {
    /// Builds the crate in a folder, or takes a file as it is.
    pub(super) fn get(path: &Path) -> Result<Self, Failure> {
        match path.is_dir() {
            true => Self::build(path),
            false => {
                let inspection = inspect(path, path)?;
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                Ok(Subject { wasm: path.to_owned(), folder, inspection })
            }
        }
    }

    /// Builds the crate in a folder. A module that does not keep to the ABI is
    /// not put where profiles look.
    pub(super) fn build(folder: &Path) -> Result<Self, Failure> {
        // Before the build, which takes long.
        check_manifest(folder)?;
        let toolchain = WasmToolchain::find_or_add(folder).map_err(Failure::host)?;
        let workspace = PluginCrates::load(folder)
            .with_context(|| format!("crate {}", folder.display()))
            .map_err(Failure::input)?;
        let own = folder.canonicalize().map_err(Failure::host)?;
        let plugin = workspace.crates.iter().find(|plugin| plugin.folder == own).ok_or_else(|| {
            Failure::input(anyhow!(
                "crate {} is no plugin; add `[lib] crate-type = [\"cdylib\"]` to its Cargo.toml",
                folder.display()
            ))
        })?;
        let output = match io::stderr().is_terminal() {
            true => Output::Shown,
            false => Output::OnFailure,
        };
        let built = build(&toolchain, &workspace, &[plugin], output)
            .with_context(|| format!("crate {}", folder.display()))
            .map_err(Failure::input)?;
        let built = built.first().context("cargo built nothing").map_err(Failure::host)?;
        let inspection = inspect(&built.path, folder)?;
        let wasm = built.read().map_err(Failure::host)?;
        let wasm = publish(&built.file_name, &wasm, &workspace.plugins()).map_err(Failure::host)?;
        Ok(Subject { wasm: near(&wasm), folder: plain(folder).to_owned(), inspection })
    }
}

/// A folder as a prefix: nothing for the current one.
fn plain(folder: &Path) -> &Path {
    folder.strip_prefix(".").unwrap_or(folder)
}

/// What a file says about itself, with errors that name `subject`.
fn inspect(file: &Path, subject: &Path) -> Result<Inspection, Failure> {
    plugin::inspect(file)
        .with_context(|| format!("plugin {}", subject.display()))
        .map_err(Failure::input)
}

/// Reads `plugin.toml` as the engine will read what becomes of it.
fn check_manifest(folder: &Path) -> Result<(), Failure> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(Failure::input(anyhow!(
            "{} is no crate, it has no Cargo.toml; `wasmsr plugin new NAME --msr RANGE` writes one",
            folder.display()
        )));
    }
    let path = plain(folder).join("plugin.toml");
    let in_manifest = || format!("manifest {}", path.display());
    let text = fs::read(&path).with_context(in_manifest).map_err(Failure::input)?;
    Manifest::parse(&text).with_context(in_manifest).map_err(Failure::input)?;
    Ok(())
}

/// A path as people would write it from here.
fn near(path: &Path) -> PathBuf {
    let here = env::current_dir().and_then(|here| here.canonicalize());
    let short = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    short.unwrap_or_else(|| path.to_owned())
}
