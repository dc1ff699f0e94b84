//! The tests that need KVM, made ready to run where there is no toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::Image;
use crate::process;
use crate::workspace::Workspace;

/// The tests that need KVM; the others have run outside.
pub(super) struct Tests {
    /// Those of the command.
    black_box: PathBuf,
    /// Those of `host/kvm`.
    kvm: PathBuf,
    /// Those of `host/vmm`.
    vmm: PathBuf,
}

/// Builds the tests, and the command that they run.
pub(super) fn build(workspace: &Workspace) -> Result<Tests> {
    let kvm = workspace.build_harness("test", "wasmsr-kvm", "kvm")?;
    let vmm = workspace.build_harness("test", "wasmsr-vmm", "kvm")?;
    Ok(Tests { black_box: workspace.build_harness("test", "wasmsr", "blackbox")?, kvm, vmm })
}

/// Runs all harnesses with the same arguments; fails if any does.
const ALL: &str = r#"kvm=$1 vmm=$2 black_box=$3; shift 3
"$kvm" "$@"; code=$?
"$vmm" "$@" || code=$?
"$black_box" "$@" && exit $code"#;

/// Puts built tests into an image that has the command; returns the command line
/// that runs them.
pub(super) fn add(workspace: &Workspace, image: &mut Image, tests: &Tests) -> Result<Vec<String>> {
    let guests = assemble_guests(workspace, &tests.black_box)?;
    image.add_program(&tests.kvm)?;
    image.add_program(&tests.vmm)?;
    image.add_program(&tests.black_box)?;
    image.add(&guests)?;
    image.set_variable("WASMSR_GUESTS", &guests);
    // Inside, its output is a terminal.
    let harnesses = [&tests.kvm, &tests.vmm, &tests.black_box];
    let harnesses = harnesses.map(|harness| harness.display().to_string());
    let command = ["sh", "-c", ALL, "sh"].map(str::to_owned).into_iter().chain(harnesses);
    Ok(command.chain(["--color=never".to_owned()]).collect())
}

/// Assembles all guests with the tests' own assembler call.
fn assemble_guests(workspace: &Workspace, tests: &Path) -> Result<PathBuf> {
    let guests = workspace.root.join("target/nested/guests");
    fs::create_dir_all(&guests)?;
    process::run(Command::new(tests).current_dir(&workspace.root).env("WASMSR_ASSEMBLE", &guests))
        .context("assembling the tests' guests")?;
    Ok(guests)
}
