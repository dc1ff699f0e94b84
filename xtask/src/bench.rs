//! `cargo xtask bench`: how fast wasmsr is, with the release build.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{nested, plugins, process};

/// The arguments are those of the benchmarks themselves: `--json` for a line
/// of JSON a figure, and parts of figures' names for these alone.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let workspace = Workspace::load()?.in_release();
    plugins::build(&workspace)?;
    workspace.build_wasmsr()?;
    match arguments {
        [flag, arguments @ ..] if flag == "--nested" => {
            let code = nested::run_benchmarks(&workspace, &nested::Options::default(), arguments)?;
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
        }
        _ => run_here(&workspace, arguments),
    }
}

fn run_here(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let mut cargo = process::cargo();
    cargo
        .current_dir(&workspace.root)
        .args(["bench", "--package", "wasmsr-bench", "--"])
        .args(arguments)
        .env("WASMSR_PLUGINS", workspace.plugins());
    match nested::build_linux_guest(workspace) {
        Ok(folder) => _ = cargo.env("WASMSR_LINUX", folder),
        Err(error) => eprintln!("bench: no figures of Linux: {error:#}"),
    }
    process::run(&mut cargo)?;
    Ok(ExitCode::SUCCESS)
}
