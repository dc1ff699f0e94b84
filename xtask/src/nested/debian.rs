//! What the nested host takes from Debian, fetched but not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use crate::{apt, process};

/// Debian's kernel for virtual machines. It serves twice: as the software
/// host's, since its `kvm-amd` needs no driver of AMD's secure processor, and
/// as the stock Linux guest.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Files of Debian's packages.
pub(super) struct Debian {
    /// The kernel, a bzImage.
    pub(super) kernel: PathBuf,
    /// A program that is linked statically.
    pub(super) busybox: PathBuf,
    /// The programs `rdmsr`, `wrmsr` and `turbostat`.
    pub(super) msr_tools: [PathBuf; 3],
    modules: PathBuf,
}

impl Debian {
    /// Fetches the packages; a second time they are there.
    pub(super) fn fetch(workspace: &Workspace) -> Result<Self> {
        let folder = workspace.root.join("target/nested/packages");
        fs::create_dir_all(&folder)?;
        let kernel = apt::dependency_of(KERNEL)?;
        let version = kernel.trim_start_matches("linux-image-").to_owned();
        let kernel = unpack(&kernel, &folder)?;
        let busybox = unpack("busybox-static", &folder)?;
        let msr_tools = unpack("msr-tools", &folder)?;
        let cpu_power = unpack("linux-cpupower", &folder)?;
        Ok(Self {
            modules: kernel.join(format!("lib/modules/{version}/kernel")),
            kernel: kernel.join(format!("boot/vmlinuz-{version}")),
            busybox: busybox.join("bin/busybox"),
            msr_tools: [(&msr_tools, "rdmsr"), (&msr_tools, "wrmsr"), (&cpu_power, "turbostat")]
                .map(|(package, tool)| package.join("usr/sbin").join(tool)),
        })
    }

    /// A module of the kernel, by its path below `kernel/`.
    pub(super) fn module(&self, path: &str) -> Result<Vec<u8>> {
        let path = self.modules.join(path);
        fs::read(&path).with_context(|| format!("Debian's kernel has no {}", path.display()))
    }
}

/// Fetches a package and unpacks it beside its file.
pub(super) fn unpack(package: &str, folder: &Path) -> Result<PathBuf> {
    let file = apt::download(package, folder)?;
    let content = file.with_extension("");
    if !content.is_dir() {
        // In one step, so that an interrupted run leaves nothing half done.
        let partial = folder.join(format!("{package}.{}", std::process::id()));
        process::run_quietly(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&partial))?;
        fs::rename(&partial, &content)
            .with_context(|| format!("cannot create {}", content.display()))?;
    }
    Ok(content)
}
