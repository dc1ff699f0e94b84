//! What lies inside the nested host: its initramfs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::debian::Debian;
use crate::process;
use crate::workspace::Workspace;

const INIT: &str = include_str!("host-init.sh");

/// In the order in which they depend on each other.
const MODULES: &[&str] = &[
    "virt/lib/irqbypass.ko",
    "arch/x86/kvm/kvm.ko",
    "arch/x86/kvm/kvm-amd.ko",
    "arch/x86/kernel/msr.ko",
];

/// The initramfs of the nested host in the making.
pub(super) struct Image {
    archive: Archive,
    variables: BTreeMap<String, String>,
    working_folder: PathBuf,
}

impl Image {
    /// One that loads KVM and runs a command.
    pub(super) fn new(workspace: &Workspace, debian: &Debian) -> Result<Self> {
        let mut archive = Archive::default();
        for folder in ["dev", "proc", "root", "sys", "tmp"] {
            archive.add_folder(folder);
        }
        archive.add_program("init", INIT.into());
        archive.add_program("bin/busybox", read(&debian.busybox)?);
        for (number, path) in MODULES.iter().enumerate() {
            let name = path.rsplit('/').next().unwrap_or(path);
            archive.add_file(&format!("modules/{number}-{name}"), debian.module(path)?);
        }
        let search = workspace.wasmsr().parent().map(Path::display).map(|p| format!("{p}:/bin"));
        let mut image = Self {
            archive,
            variables: BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
            working_folder: workspace.root.clone(),
        };
        image.variables.insert("PATH".to_owned(), search.unwrap_or_default());
        Ok(image)
    }

    /// Takes a file or folder along, at the path it has outside.
    pub(super) fn add(&mut self, path: &Path) -> Result<()> {
        self.add_as(path, path)
    }

    /// Takes a file or folder along, at another path. Programs bring the
    /// libraries they are linked with.
    pub(super) fn add_as(&mut self, outside: &Path, inside: &Path) -> Result<()> {
        let name = inside.to_string_lossy();
        if outside.is_dir() {
            self.archive.add_folder(&name);
            for entry in fs::read_dir(outside)? {
                let entry = entry?;
                self.add_as(&entry.path(), &inside.join(entry.file_name()))?;
            }
        } else if is_executable(outside)? {
            self.archive.add_program(&name, read(outside)?);
            self.add_libraries(outside)?;
        } else {
            self.archive.add_file(&name, read(outside)?);
        }
        Ok(())
    }

    /// Takes a program of this workspace along, without its symbols: memory
    /// is all the disk there is.
    pub(super) fn add_program(&mut self, program: &Path) -> Result<()> {
        let stripped = std::env::temp_dir().join(format!("wasmsr-{}", std::process::id()));
        let strip =
            process::run_quietly(Command::new("strip").arg("-o").arg(&stripped).arg(program));
        let content = strip.and_then(|()| read(&stripped)).or_else(|_| read(program))?;
        // It is not there where `strip` is not.
        let _ = fs::remove_file(&stripped);
        self.archive.add_program(&program.to_string_lossy(), content);
        self.add_libraries(program)
    }

    /// Sets a variable for the command.
    pub(super) fn set_variable(&mut self, name: &str, path: &Path) {
        self.variables.insert(name.to_owned(), path.display().to_string());
    }

    /// The finished initramfs, which runs `command`.
    pub(super) fn into_bytes(mut self, command: &[String]) -> Result<Vec<u8>> {
        let mut script = String::new();
        for (name, value) in &self.variables {
            script += &format!("export {name}={}\n", quoted(value));
        }
        script += &format!("cd {}\nexec", quoted(&self.working_folder.to_string_lossy()));
        for word in command {
            script += &format!(" {}", quoted(word));
        }
        script.push('\n');
        self.archive.add_folder(&self.working_folder.to_string_lossy());
        self.archive.add_file("command", script.into());
        self.archive.into_bytes()
    }

    fn add_libraries(&mut self, program: &Path) -> Result<()> {
        for library in libraries(program)? {
            let name = library.to_string_lossy();
            if !self.archive.contains(&name) {
                self.archive.add_program(&name, read(&library)?);
            }
        }
        Ok(())
    }
}

/// The shared libraries of a program, and its loader; none where it is
/// linked statically or is a script.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let ldd = Command::new("ldd").arg(program).output().context("cannot run `ldd`")?;
    // `libc.so.6 => /lib/libc.so.6 (0x7f..)` or `/lib64/ld.so.2 (0x7f..)`
    let path = |line: &str| {
        let path = line.rsplit("=>").next()?.split(" (").next()?.trim();
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    Ok(if ldd.status.success() {
        String::from_utf8_lossy(&ldd.stdout).lines().filter_map(path).collect()
    } else {
        Vec::new()
    })
}

/// Reads a file that has to be there.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn is_executable(path: &Path) -> Result<bool> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o111 != 0)
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
