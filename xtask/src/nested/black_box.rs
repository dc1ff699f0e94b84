//! The black-box tests, made ready to run where there is no toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::Image;
use crate::process;
use crate::workspace::Workspace;

const PACKAGE: &str = "wasmsr-tests";

/// Its tests that run the command; the others need no KVM and have run outside.
const TARGET: &str = "blackbox";

/// Puts the tests into the image; returns the command that runs them.
pub(super) fn add(workspace: &Workspace, image: &mut Image) -> Result<Vec<String>> {
    let tests = workspace.build_harness("test", PACKAGE, TARGET)?;
    let guests = assemble_guests(workspace, &tests)?;
    image.add_program(&tests)?;
    image.add(&guests)?;
    image.add(&workspace.root.join("tests"))?;
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
