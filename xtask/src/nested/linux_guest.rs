//! The stock Linux guest that the tests boot inside: Debian's kernel, and an
//! initramfs with people's tools for MSRs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::cpio::Archive;
use super::debian::Debian;
use super::image::{libraries, read};
use crate::workspace::Workspace;

const INIT: &str = include_str!("guest-init.sh");

/// What a distribution's udev would load; init does, all but the drivers of RAPL,
/// which refuse to load on most processors.
const MODULES: &[(&str, &str)] = &[
    ("msr", "arch/x86/kernel/msr.ko"),
    ("button", "drivers/acpi/button.ko"),
    ("pvpanic", "drivers/misc/pvpanic/pvpanic.ko"),
    ("pvpanic-mmio", "drivers/misc/pvpanic/pvpanic-mmio.ko"),
    ("iosf_mbi", "arch/x86/platform/intel/iosf_mbi.ko"),
    ("intel_rapl_common", "drivers/powercap/intel_rapl_common.ko"),
    ("intel_rapl_msr", "drivers/powercap/intel_rapl_msr.ko"),
];

/// Builds a folder with `vmlinuz` and `initrd.gz`.
pub(super) fn build(workspace: &Workspace, debian: &Debian) -> Result<PathBuf> {
    let folder = workspace.root.join("target/nested/linux");
    fs::create_dir_all(&folder)?;
    fs::copy(&debian.kernel, folder.join("vmlinuz")).context("cannot copy Debian's kernel")?;
    write_gzip(&folder.join("initrd.gz"), &initramfs(debian)?)?;
    Ok(folder)
}

fn initramfs(debian: &Debian) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "root", "sys", "tmp"] {
        archive.add_folder(folder);
    }
    archive.add_program("init", INIT.into());
    archive.add_program("bin/busybox", read(&debian.busybox)?);
    for (name, path) in MODULES {
        archive.add_file(&format!("modules/{name}.ko"), debian.module(path)?);
    }
    for tool in &debian.msr_tools {
        let name = tool.file_name().unwrap_or_default().to_string_lossy();
        archive.add_program(&format!("bin/{name}"), read(tool)?);
        for library in libraries(tool)? {
            archive.add_program(&library.to_string_lossy(), read(&library)?);
        }
    }
    archive.into_bytes()
}

/// `gzip` is on every machine that has Debian's packages.
fn write_gzip(path: &Path, content: &[u8]) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut gzip = Command::new("gzip")
        .args(["--no-name", "--fast", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .context("cannot run `gzip`")?;
    let mut input = gzip.stdin.take().context("gzip has no input")?;
    input.write_all(content)?;
    drop(input);
    ensure!(gzip.wait()?.success(), "gzip could not write {}", path.display());
    Ok(())
}
