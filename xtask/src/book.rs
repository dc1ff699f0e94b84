//! `cargo xtask book`: the documents as a book.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::process;
use crate::workspace::Workspace;

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match arguments {
        [] => {}
        [flag] if flag == "--bless" => {
            // Twice: the schema of profiles is made of the engine's, which may be new.
            for _ in 0..2 {
                process::run(generated(&workspace).env("BLESS", "1"))?;
            }
        }
        _ => bail!("`book` takes no arguments but `--bless`"),
    }
    build(&workspace)?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the book, and fails where a link leads nowhere.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    // The time goes into compiling it, not into running it.
    process::run(
        process::cargo()
            .current_dir(&workspace.root)
            .args(["run", "--quiet", "--profile", "once", "--package", "wasmsr-book"])
            .args(["--features", "build", "--"])
            .arg(workspace.root.join("target/book")),
    )
}

/// The tests that hold the generated parts of the pages against the code.
fn generated(workspace: &Workspace) -> Command {
    let mut cargo = process::cargo();
    cargo.current_dir(&workspace.root).args([
        "test",
        "--package=wasmsr",
        "--package=wasmsr-engine",
        "--bins",
        "--lib",
        "reference_is_current",
    ]);
    cargo
}
