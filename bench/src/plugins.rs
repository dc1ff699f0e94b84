//! Profiles with shipped plugins, in folders of their own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;
use wasmsr_engine::Profile;
use wasmsr_interface::MsrIndex;

/// The MSR that [`Setup::of_one`] answers with [`VALUE`].
pub(crate) const ARCH_CAPABILITIES: MsrIndex = MsrIndex(0x10a);

/// See [`ARCH_CAPABILITIES`].
pub(crate) const VALUE: u64 = 0x2b;

/// How many plugins [`Setup::of_sixteen`] has.
const MANY: u8 = 16;

/// A profile `vm.toml` and all files that it names.
pub(crate) struct Setup {
    directory: TempDir,
    plugins: String,
}

impl Setup {
    /// No plugin.
    pub(crate) fn of_none() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        Ok(Setup { directory, plugins: String::new() })
    }

    /// The plugin `arch-capabilities`.
    pub(crate) fn of_one() -> Result<Self, String> {
        let mut setup = Self::of_none()?;
        setup.add("arch_capabilities.wasm", &shipped("arch_capabilities")?, ARCH_CONFIG)?;
        Ok(setup)
    }

    /// Variants of two plugins, each with its own code, name and MSRs.
    pub(crate) fn of_sixteen() -> Result<Self, String> {
        let (arch, registers) = (shipped("arch_capabilities")?, shipped("registers")?);
        let mut setup = Self::of_none()?;
        for number in 0..MANY {
            let (wasm, config) = if number % 2 == 0 {
                let name = ("\"arch-capabilities\"", format!("\"arch-capabiliti-{number:x}\""));
                let range = ("\"0x10a\"", format!("\"0xa{number:02x}\""));
                (variant(&arch, &[name, range])?, ARCH_CONFIG.to_owned())
            } else {
                let name = ("name = \"registers\"", format!("name = \"register{number:x}\""));
                let config = format!(
                    "config = {{ registers = [{{ range = \"0x5644{number:02x}00-\
                     0x5644{number:02x}ff\", write = \"fault\" }}] }}"
                );
                (variant(&registers, &[name])?, config)
            };
            setup.add(&format!("plugin{number}.wasm"), &wasm, &config)?;
        }
        Ok(setup)
    }

    /// Makes `image` the guest and returns the profile's path.
    pub(crate) fn boots(&self, image: &[u8]) -> Result<PathBuf> {
        self.image(image)?;
        let tables =
            format!("[vm]\nmemory = \"{}MiB\"\n[boot]\nimage = \"{IMAGE}\"\n", GUEST_MEMORY >> 20);
        self.boots_as(&tables)
    }

    /// Puts `image` beside the plugins and returns its path.
    pub(crate) fn image(&self, image: &[u8]) -> Result<PathBuf> {
        let path = self.directory.path().join(IMAGE);
        fs::write(&path, image)?;
        Ok(path)
    }

    /// Uses these tables of a profile as the guest and returns the profile's
    /// path.
    pub(crate) fn boots_as(&self, tables: &str) -> Result<PathBuf> {
        let path = self.path();
        fs::write(&path, tables.to_owned() + &self.plugins)?;
        Ok(path)
    }

    /// The plugins' part of the profile.
    pub(crate) fn profile(&self) -> Result<Profile> {
        Ok(Profile::parse(&self.path(), &self.plugins)?)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("vm.toml")
    }

    fn add(&mut self, file: &str, wasm: &[u8], config: &str) -> Result<(), String> {
        let path = self.directory.path().join(file);
        fs::write(&path, wasm).map_err(|error| format!("{}: {error}", path.display()))?;
        self.plugins += &format!("[[plugin]]\npath = \"{file}\"\n{config}\n");
        Ok(())
    }
}

/// The beginning of every profile for an image.
pub(crate) const GUEST_MEMORY: u64 = 64 << 20;

const IMAGE: &str = "guest.flat";

const ARCH_CONFIG: &str = "config = { value = 0x2b }";

/// The folder for cargo's output in this cargo profile.
pub(crate) fn built() -> Result<PathBuf> {
    let itself = env::current_exe()?;
    let directory = itself.parent().and_then(Path::parent);
    Ok(directory.context("this program lies in no folder")?.to_owned())
}

fn shipped(name: &str) -> Result<Vec<u8>, String> {
    let path = match env::var_os("WASMSR_PLUGINS") {
        Some(directory) => PathBuf::from(directory),
        None => built().map_err(|error| error.to_string())?.with_file_name("plugins"),
    };
    let path = path.join(name).with_extension("wasm");
    fs::read(&path)
        .map_err(|error| format!("{}: {error}; `cargo xtask plugins` builds it", path.display()))
}

/// A plugin whose manifest has some words replaced by others of the same length.
fn variant(wasm: &[u8], words: &[(&str, String)]) -> Result<Vec<u8>, String> {
    let mut wasm = wasm.to_vec();
    for (old, new) in words {
        let at = wasm.windows(old.len()).position(|window| window == old.as_bytes());
        let place = at.and_then(|at| wasm.get_mut(at..at + new.len()));
        match place {
            Some(place) if old.len() == new.len() => place.copy_from_slice(new.as_bytes()),
            _ => return Err(format!("a plugin's manifest has no {old} that could be {new}")),
        }
    }
    Ok(wasm)
}
