//! What a verb is about: a plugin's crate, which is built, or a built file.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use wasmsr_engine::Profile;
use wasmsr_engine::manifest::Manifest;
use wasmsr_engine::plugin::{self, Inspection};
use wasmsr_engine::profile::PluginConfig;
use wasmsr_interface::{ExitClaim, ExitList};
use wasmsr_kvm::filter::{KvmFilter, PackError};
use wasmsr_toolchain::{
    BuildError, CratesError, Output, PluginCrates, WasmToolchain, build, publish,
};

use crate::exit::Failure;

/// A plugin on disk.
pub(super) struct Subject {
    /// The `.wasm` file, where profiles look for it.
    pub(super) wasm: PathBuf,
    /// What traces and profiles lie in: the crate, or the file's folder.
    pub(super) folder: PathBuf,
    /// What the file says about itself.
    pub(super) inspection: Inspection,
}

impl Subject {
    /// Builds the crate in a folder, or takes a file as it is.
    pub(super) fn get(path: &Path) -> Result<Self, Failure> {
        match path.is_dir() {
            true => Self::build(path),
            false => {
                let inspection = inspect(path, path)?;
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                Ok(Subject { wasm: path.to_owned(), folder, inspection })
            }
        }
    }

    /// Builds the crate in a folder. A module that does not keep to the ABI is
    /// not put where profiles look.
    pub(super) fn build(folder: &Path) -> Result<Self, Failure> {
        // Before the build, which takes long.
        check_manifest(folder)?;
        let toolchain = WasmToolchain::find_or_add(folder).map_err(Failure::host)?;
        let in_crate = || format!("crate {}", folder.display());
        let workspace = PluginCrates::load(folder).map_err(|error| {
            let is_missing = matches!(error, CratesError::NoCargo(_));
            let failure = if is_missing { Failure::host } else { Failure::input };
            failure(anyhow!(error).context(in_crate()))
        })?;
        let own = folder.canonicalize().map_err(Failure::host)?;
        let plugin = workspace.crates.iter().find(|plugin| plugin.folder == own).ok_or_else(|| {
            Failure::input(anyhow!(
                "crate {} is not a plugin; add `[lib] crate-type = [\"cdylib\"]` to its Cargo.toml",
                folder.display()
            ))
        })?;
        let output = match io::stderr().is_terminal() {
            true => Output::Shown,
            false => Output::OnFailure,
        };
        let built = build(&toolchain, &workspace, &[plugin], output).map_err(|error| {
            let is_code = matches!(error, BuildError::Failed(_));
            let failure = if is_code { Failure::input } else { Failure::host };
            failure(anyhow!(error).context(in_crate()))
        })?;
        let built = built.first().context("cargo built nothing").map_err(Failure::host)?;
        let wasm = built.read().with_context(in_crate).map_err(Failure::host)?;
        let inspection = inspect(&built.path, folder)?;
        let wasm = publish(&built.file_name, &wasm, &workspace.plugins()).map_err(Failure::host)?;
        Ok(Subject { wasm: near(&wasm), folder: plain(folder).to_owned(), inspection })
    }

    /// The folder of the file, which also has the other plugins of its tests.
    pub(super) fn beside(&self) -> &Path {
        self.wasm.parent().unwrap_or(Path::new(""))
    }

    /// Puts this very file in the place of one that a trace swaps in, if that has the same
    /// file name. The plugin before it is then another version.
    pub(super) fn is_swapped_in(&self, swaps: &mut BTreeMap<String, PathBuf>) -> bool {
        let mut found = false;
        for path in swaps.values_mut().filter(|path| path.file_name() == self.wasm.file_name()) {
            path.clone_from(&self.wasm);
            found = true;
        }
        found
    }

    /// Puts this very file into the profile of a test, in place of another version of the
    /// same plugin: of the file with the same name, or else of a file named after the
    /// plugin, or else of a file that has the plugin.
    pub(super) fn take_its_place(&self, profile: &mut Profile) -> anyhow::Result<()> {
        let name = &self.inspection.manifest.plugin.name;
        let same_file = |plugin: &PluginConfig| plugin.path.file_name() == self.wasm.file_name();
        let named_for_it = |plugin: &PluginConfig| {
            let stem = plugin.path.file_stem().unwrap_or_default();
            stem.to_string_lossy().replace('_', "-") == *name
        };
        let holds_it = |plugin: &PluginConfig| {
            let manifest = plugin::read_manifest(&plugin.path);
            manifest.is_ok_and(|manifest| manifest.plugin.name == *name)
        };
        let rules: [&dyn Fn(&PluginConfig) -> bool; 3] = [&same_file, &named_for_it, &holds_it];
        for is_it in rules {
            let mut found = false;
            for plugin in profile.plugins.iter_mut().filter(|plugin| is_it(plugin)) {
                plugin.path.clone_from(&self.wasm);
                // The present file is tested, whatever its hash.
                plugin.sha256 = None;
                found = true;
            }
            if found {
                return Ok(());
            }
        }
        let file = self.wasm.file_name().unwrap_or_default().display();
        bail!(
            "none of its plugins is {name}, so it does not test {}; give it a [[plugin]] with \
             `path = \"{file}\"`, or test the plugin that it names",
            self.wasm.display()
        )
    }
}

/// KVM's filter for a plugin's claims.
pub(super) fn filter_of(manifest: &Manifest) -> Result<KvmFilter, PackError> {
    let name = manifest.plugin.name.as_str();
    let claims = manifest.msr.iter().map(|claim| ExitClaim::new(name, claim.range, claim.access));
    KvmFilter::pack(&ExitList::from(claims.collect::<Vec<_>>()))
}

/// A folder as a prefix: nothing for the current one.
fn plain(folder: &Path) -> &Path {
    folder.strip_prefix(".").unwrap_or(folder)
}

/// Inspects a file; errors name `subject`.
fn inspect(file: &Path, subject: &Path) -> Result<Inspection, Failure> {
    plugin::inspect(file)
        .with_context(|| format!("plugin {}", subject.display()))
        .map_err(Failure::input)
}

/// Checks `plugin.toml` by the rules of the engine and of KVM.
fn check_manifest(folder: &Path) -> Result<(), Failure> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(Failure::input(anyhow!(
            "{} is not a crate, since it has no Cargo.toml; `wasmsr plugin new NAME --msr RANGE` writes one",
            folder.display()
        )));
    }
    let path = plain(folder).join("plugin.toml");
    let in_manifest = || format!("manifest {}", path.display());
    let text = fs::read(&path).with_context(in_manifest).map_err(Failure::input)?;
    let manifest = Manifest::parse(&text).with_context(in_manifest).map_err(Failure::input)?;
    filter_of(&manifest).map(|_| ()).map_err(|error| {
        let range = error.claim().map(|(_, range)| range);
        let number = manifest.msr.iter().position(|claim| Some(claim.range) == range);
        let place = number
            .and_then(|number| Manifest::place_of_claim(&String::from_utf8_lossy(&text), number));
        let place = place.map_or(String::new(), |place| format!(": {place}"));
        Failure::input(anyhow!(error).context(format!("{}{place}", in_manifest())))
    })
}

/// A path as short as it can be written from the current folder.
fn near(path: &Path) -> PathBuf {
    let here = env::current_dir().and_then(|here| here.canonicalize());
    let short = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    short.unwrap_or_else(|| path.to_owned())
}
