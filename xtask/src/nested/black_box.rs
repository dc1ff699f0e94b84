//! The black-box tests, made ready to run where there is no toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::Image;
use crate::process;
use crate::workspace::Workspace;

/// The command's package, whose tests these are.
const PACKAGE: &str = "wasmsr";

/// Its tests that need KVM; the others have run outside.
const TARGET: &str = "blackbox";

/// Builds the tests, and the command that they run.
pub(super) fn build(workspace: &Workspace) -> Result<PathBuf> {
    workspace.build_harness("test", PACKAGE, TARGET)
}

/// Puts built tests into an image that has the command; returns the command line
/// that runs them.
pub(super) fn add(workspace: &Workspace, image: &mut Image, tests: &Path) -> Result<Vec<String>> {
    let guests = assemble_guests(workspace, tests)?;
    image.add_program(tests)?;
    image.add(&guests)?;
    image.set_variable("WASMSR_GUESTS", &guests);
    // Inside, its output is a terminal.
    Ok(vec![tests.display().to_string(), "--color=never".to_owned()])
}

/// Assembles all guests with the tests' own assembler call.
fn assemble_guests(workspace: &Workspace, tests: &Path) -> Result<PathBuf> {
    let guests = workspace.root.join("target/nested/guests");
    fs::create_dir_all(&guests)?;
    process::run(Command::new(tests).current_dir(&workspace.root).env("WASMSR_ASSEMBLE", &guests))
        .context("assembling the tests' guests")?;
    Ok(guests)
}
