//! `cargo xtask plugins`: every plugin crate becomes one `.wasm` file, and so
//! does every plugin in another language.

use std::fs::{self, File};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use wasmsr_toolchain::{Missing, Output, PluginCrate, WasmToolchain, build as build_crates};

use crate::apt;
use crate::languages::{self, Language};
use crate::workspace::Workspace;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`plugins` takes no arguments");
    build(&Workspace::load()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds all plugins and prints a line on each.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let start = SystemTime::now();
    let plugins = workspace.plugin_crates();
    ensure!(!plugins.is_empty(), "no workspace member under plugins/ or examples/ is a cdylib");
    build_rust(workspace, start, &plugins)?;
    for language in [Language::C, Language::Wat] {
        for plugin in languages::build(language, workspace)? {
            let folder = language.folder();
            publish(workspace, start, folder, &plugin.name, &plugin.file, &plugin.wasm)?;
        }
    }
    Ok(())
}

/// Builds the plugins of a profile in the workspace, and prints a line on each.
pub(crate) fn build_for(workspace: &Workspace, profile: &str) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join(profile))
        .with_context(|| format!("cannot read {profile}"))?;
    let mut plugins = workspace.plugin_crates();
    plugins.retain(|plugin| text.contains(&format!("/{}.wasm", plugin.file_stem)));
    ensure!(!plugins.is_empty(), "{profile} names no plugin of this workspace");
    build_rust(workspace, SystemTime::now(), &plugins)
}

fn build_rust(workspace: &Workspace, start: SystemTime, plugins: &[&PluginCrate]) -> Result<()> {
    let toolchain = toolchain(&workspace.root)?;
    let built = build_crates(&toolchain, workspace.crates(), plugins, Output::OnFailure)
        .context("building the plugins")?;
    for (plugin, built) in plugins.iter().zip(&built) {
        publish(workspace, start, "", &plugin.package, &built.file_name, &built.read()?)?;
    }
    Ok(())
}

/// Puts a built plugin where profiles look for it, or into a folder there, and
/// says so. One that is the same as before is marked as built at `start` too: tests
/// refuse plugins that are older than their sources.
fn publish(
    workspace: &Workspace,
    start: SystemTime,
    folder: &str,
    plugin: &str,
    name: &str,
    wasm: &[u8],
) -> Result<()> {
    let path = wasmsr_toolchain::publish(name, wasm, &workspace.plugins().join(folder))?;
    let file = File::options().append(true).open(&path);
    file.and_then(|file| file.set_modified(start))
        .with_context(|| format!("cannot set the time of {}", path.display()))?;
    let shown = path.strip_prefix(&workspace.root).unwrap_or(&path).display();
    eprintln!("plugin {plugin:<20} {:>7} bytes  {shown}", wasm.len());
    Ok(())
}

/// Finds a toolchain for Wasm, installing what is missing where that is
/// possible.
fn toolchain(folder: &Path) -> Result<WasmToolchain> {
    match WasmToolchain::find_or_add(folder) {
        Err(Missing { packages, .. }) if apt::can_install() => {
            apt::install(&packages)?;
            Ok(WasmToolchain::find(folder)?)
        }
        found => Ok(found?),
    }
}
