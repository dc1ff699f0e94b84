//! `cargo xtask prepush`: exactly what CI runs.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;
use crate::{architecture, book, plugins, process, test};

type Step = (&'static str, fn(&Workspace) -> Result<()>);

/// The cheap ones first. Tests come after all of them and end the output.
const CHECKS: &[Step] = &[
    ("format", |workspace| cargo(workspace, &["fmt", "--all", "--check"])),
    ("architecture", |workspace| architecture::check(&workspace.root)),
    ("plugins compile for Wasm", plugins::build),
    ("lints", |workspace| {
        cargo(workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
    }),
    ("documentation", |workspace| cargo(workspace, &["doc", "--workspace", "--no-deps"])),
    ("book", book::build),
];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    ensure!(arguments.is_empty(), "`prepush` takes no arguments");
    let workspace = Workspace::load()?;
    let start = Instant::now();
    for (name, check) in CHECKS {
        eprintln!("prepush: {name} ({} s so far)", start.elapsed().as_secs());
        check(&workspace).with_context(|| format!("prepush: {name}"))?;
    }
    eprintln!("prepush: tests ({} s so far)", start.elapsed().as_secs());
    test::run(&[])
}

/// What it does, step by step.
#[cfg(test)]
pub(crate) fn steps() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    process::run(
        process::cargo()
            .current_dir(&workspace.root)
            .args(arguments)
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}
