//! Kernels from Debian's packages that are not Linux, for tests of what boots.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::debian::unpack;
use crate::apt;
use crate::workspace::Workspace;

/// A folder with memtest86+ and Xen. Without them, the tests that boot them are skipped.
pub(super) fn fetch(workspace: &Workspace) -> Option<PathBuf> {
    let folder = workspace.root.join("target/nested/kernels");
    match fetch_into(workspace, &folder) {
        Ok(()) => Some(folder),
        Err(error) => {
            eprintln!("nested: tests with memtest86+ and Xen are skipped: {error:#}");
            None
        }
    }
}

fn fetch_into(workspace: &Workspace, folder: &Path) -> Result<()> {
    const MEMTESTS: [&str; 2] = ["memtest86+x64.bin", "memtest86+ia32.bin"];
    let packages = workspace.root.join("target/nested/packages");
    fs::create_dir_all(&packages)?;
    fs::create_dir_all(folder)?;
    let memtest = unpack("memtest86+", &packages)?;
    for name in MEMTESTS {
        fs::copy(memtest.join("boot").join(name), folder.join(name)).context(name)?;
    }
    let xen = unpack(&apt::dependency_of("xen-system-amd64")?, &packages)?;
    for entry in fs::read_dir(xen.join("boot"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "gz") {
            gunzip(&path, &folder.join("xen"))?;
        }
    }
    Ok(())
}

fn gunzip(from: &Path, to: &Path) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let status = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .arg(from)
        .stdout(Stdio::from(file))
        .status()
        .context("cannot run `gzip`")?;
    ensure!(status.success(), "gzip could not read {}", from.display());
    Ok(())
}
