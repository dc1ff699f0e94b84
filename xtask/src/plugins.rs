//! `cargo xtask plugins`: every plugin crate becomes one `.wasm` file.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::process;
use crate::wasm_toolchain::{TARGET, WasmToolchain};
use crate::workspace::{PluginCrate, Workspace};

/// The cargo profile for plugins, in the workspace's manifest.
const PROFILE: &str = "plugin";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`plugins` takes no arguments");
    build(&Workspace::load()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds all plugins and prints a line on each.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let plugins = workspace.plugin_crates();
    ensure!(!plugins.is_empty(), "no workspace member under plugins/ or examples/ is a cdylib");

    // Apart from the host's target folder, so that the two do not wait for
    // each other's lock or rebuild each other's work.
    let target = workspace.root.join("target/wasm");
    let toolchain = WasmToolchain::find()?;
    let mut build = toolchain.cargo_build();
    build
        .current_dir(&workspace.root)
        .args(["--quiet", "--profile", PROFILE, "--target", TARGET, "--target-dir"])
        .arg(&target);
    for plugin in &plugins {
        build.args(["--package", &plugin.package]);
    }
    process::run_quietly(&mut build).context("building the plugins")?;

    let built = target.join(TARGET).join(PROFILE);
    plugins.iter().try_for_each(|plugin| publish(plugin, &built, &workspace.plugins()))
}

/// Puts a built plugin where profiles look for it. A running VM may read the
/// file at any moment, so it is replaced in one step.
fn publish(plugin: &PluginCrate, built: &Path, folder: &Path) -> Result<()> {
    let name = format!("{}.wasm", plugin.file_stem);
    let wasm = fs::read(built.join(&name))
        .with_context(|| format!("plugin {}: cargo built no {name}", plugin.package))?;
    let published = folder.join(&name);
    if !fs::read(&published).is_ok_and(|old| old == wasm) {
        fs::create_dir_all(folder)?;
        let partial = folder.join(format!("{name}.{}", std::process::id()));
        fs::write(&partial, &wasm)
            .and_then(|()| fs::rename(&partial, &published))
            .with_context(|| format!("cannot write {}", published.display()))?;
    }
    eprintln!("plugin {:<20} {:>7} bytes  target/plugins/{name}", plugin.package, wasm.len());
    Ok(())
}
