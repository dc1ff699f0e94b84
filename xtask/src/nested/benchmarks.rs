//! The benchmarks, and QEMU as the reference of some, made ready to run inside.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::Image;
use super::machine::QEMU;
use crate::process;
use crate::workspace::Workspace;

/// What QEMU's `microvm` loads with KVM.
const FIRMWARE: &[&str] = &["bios-microvm.bin", "kvmvapic.bin", "linuxboot_dma.bin"];

/// Puts the benchmarks into the image; returns the command that runs them.
pub(super) fn add(workspace: &Workspace, image: &mut Image) -> Result<Vec<String>> {
    let benchmarks = workspace.build_harness("bench", "wasmsr-bench", "speed")?;
    image.add_program(&benchmarks)?;
    // At the path it has outside, since it looks for its firmware from there.
    let qemu = process::installed(QEMU).with_context(|| format!("{QEMU} is not installed"))?;
    image.add_program(&qemu)?;
    for name in FIRMWARE {
        image.add(&firmware(&qemu, name)?)?;
    }
    image.set_variable("WASMSR_QEMU", &qemu);
    image.set_variable("WASMSR_BIN", &workspace.wasmsr());
    image.set_variable("WASMSR_PLUGINS", &workspace.plugins());
    Ok(vec![benchmarks.display().to_string()])
}

/// Where QEMU finds a file of firmware.
fn firmware(qemu: &Path, name: &str) -> Result<PathBuf> {
    let folders = process::output_of(Command::new(qemu).args(["-L", "help"]))?;
    let mut files = folders.lines().map(|folder| Path::new(folder).join(name));
    files.find(|file| file.is_file()).with_context(|| format!("QEMU has no {name} here"))
}
