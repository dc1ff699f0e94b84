//! Where a run's set comes from: a profile, with the plugins' files that a swap has put in
//! the place of others. The next boot comes from there too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use wasmsr_engine::LoadOptions;

use crate::loaded::Loaded;
use crate::profile::VmProfile;

/// Where a set comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    profile: PathBuf,
    /// Files in the place of those that the profile names.
    replaced: BTreeMap<PathBuf, PathBuf>,
}

impl Source {
    pub(super) fn of(profile: &Path) -> Self {
        Source { profile: profile.to_owned(), replaced: BTreeMap::new() }
    }

    /// The profile.
    pub(super) fn profile(&self) -> &Path {
        &self.profile
    }

    /// With other files for plugins that `set` has, by their names.
    ///
    /// # Errors
    /// All names that `set` does not have.
    pub(super) fn with_plugins(
        &self,
        plugins: &[(String, PathBuf)],
        set: &Loaded,
    ) -> anyhow::Result<Self> {
        let mut source = self.clone();
        let mut unknown = Vec::new();
        for (name, file) in plugins {
            let mut known = set.engine.plugins();
            let Some(plugin) = known.find(|plugin| **plugin.name == **name) else {
                unknown.push(format!("`{name}`"));
                continue;
            };
            source.replaced.insert(plugin.config.path.clone(), file.clone());
        }
        if unknown.is_empty() {
            return Ok(source);
        }
        let names = set.engine.plugins().map(|plugin| format!("`{}`", plugin.name));
        Err(anyhow!(
            "no plugin in charge is called {}; there are: {}; to add a plugin, write it into the \
             profile and swap with --profile",
            unknown.join(", "),
            names.collect::<Vec<_>>().join(", ")
        ))
    }

    /// Reads and loads all of it.
    pub(super) fn load(&self, options: &LoadOptions) -> anyhow::Result<Loaded> {
        Loaded::of(self.read()?, options)
    }

    /// As [`load`](Self::load), and checks without a guest what a boot would check.
    pub(super) fn load_and_check(&self, options: &LoadOptions) -> anyhow::Result<Loaded> {
        self.load(options)?.checked()
    }

    fn read(&self) -> anyhow::Result<VmProfile> {
        let mut profile = VmProfile::read(&self.profile)?;
        for plugin in &mut profile.engine.plugins {
            if let Some(file) = self.replaced.get(&plugin.path) {
                plugin.replaced_by = Some(file.clone());
                // The pin is that of the other file.
                plugin.sha256 = None;
            }
        }
        Ok(profile)
    }
}
