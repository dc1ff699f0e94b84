//! Debian's packages, installed or only fetched.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context, Result, ensure};

use crate::process;

/// Whether packages can be installed from here: Debian, as root.
pub(crate) fn can_install() -> bool {
    is_here() && fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Installs packages, after a line that says so.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    ensure!(can_install(), "not installed: {list}; on Debian, as root: `apt-get install {list}`");
    eprintln!("installing with apt-get: {list}");
    with_fresh_lists(|| {
        process::run_quietly(
            apt_get()
                .args(["install", "--yes", "--no-install-recommends"])
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(packages),
        )
    })
}

/// Fetches a package's file into `folder` without installing it; a file that
/// already lies there is taken as it is.
pub(crate) fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    if let Some(file) = downloaded(package, folder)? {
        return Ok(file);
    }
    ensure!(is_here(), "cannot fetch Debian's package {package}: no `apt-get` here");
    eprintln!("fetching {package}");
    // apt's own user must not need the right to write here.
    with_fresh_lists(|| {
        process::run_quietly(
            apt_get()
                .args(["-o", "APT::Sandbox::User=root", "download", package])
                .current_dir(folder),
        )
    })?;
    downloaded(package, folder)?
        .with_context(|| format!("apt-get left no file of {package} in {}", folder.display()))
}

/// The first package that `package` depends on: for a metapackage, its
/// current content.
pub(crate) fn dependency_of(package: &str) -> Result<String> {
    let show = || {
        process::output_of(
            Command::new("apt-cache")
                .args(["depends", "--important", package])
                .stderr(Stdio::null()),
        )
    };
    let depends = |text: String| {
        let name = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
        name.map(str::to_owned)
    };
    ensure!(is_here(), "cannot ask for Debian's package {package}: no `apt-get` here");
    match show().map(depends) {
        Ok(Some(name)) => Ok(name),
        _ => {
            update()?;
            show().map(depends)?.with_context(|| format!("apt knows no dependency of {package}"))
        }
    }
}

/// Tries once with the package lists as they are (a new machine has none),
/// then with new ones.
fn with_fresh_lists(action: impl Fn() -> Result<()>) -> Result<()> {
    action().or_else(|_| {
        update()?;
        action()
    })
}

fn update() -> Result<()> {
    eprintln!("updating apt's package lists");
    process::run_quietly(apt_get().args(["update", "--quiet"]))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=120"]);
    command
}

fn is_here() -> bool {
    process::is_installed("apt-get")
}

/// A file of `package` in `folder`: `NAME_VERSION_ARCHITECTURE.deb`.
fn downloaded(package: &str, folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("{package}_")) && name.ends_with(".deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
