//! `cargo xtask plugins`: every plugin crate becomes one `.wasm` file, and so
//! does every plugin in another language.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use crate::languages::{self, Language};
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
    for PluginCrate { package, file_stem } in &plugins {
        let name = format!("{file_stem}.wasm");
        let wasm = fs::read(built.join(&name))
            .with_context(|| format!("plugin {package}: cargo built no {name}"))?;
        publish(workspace, package, &name, &wasm)?;
    }
    for language in [Language::C, Language::Wat] {
        for plugin in languages::build(language, workspace)? {
            publish(workspace, &plugin.name, &plugin.file, &plugin.wasm)?;
        }
    }
    Ok(())
}

/// Puts a built plugin where profiles look for it. A running VM may read the
/// file at any moment, so it is replaced in one step.
fn publish(workspace: &Workspace, plugin: &str, name: &str, wasm: &[u8]) -> Result<()> {
    let published = workspace.plugins().join(name);
    if !fs::read(&published).is_ok_and(|old| old == wasm) {
        let folder = published.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)?;
        let partial = published.with_extension(format!("wasm.{}", std::process::id()));
        fs::write(&partial, wasm)
            .and_then(|()| fs::rename(&partial, &published))
            .with_context(|| format!("cannot write {}", published.display()))?;
    }
    eprintln!("plugin {plugin:<20} {:>7} bytes  target/plugins/{name}", wasm.len());
    Ok(())
}
