//! The sets of plugins that a recording names, loaded from the files that it names. The
//! recording may come from a stranger, so a path in it is not enough to run a file: the
//! hash must match.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use wasmsr_engine::plugin::ModuleError;
use wasmsr_engine::record::{BootPlugin, RecordedSet};
use wasmsr_engine::{Engine, LoadError, LoadOptions, Profile};

use super::again::load;

/// Sets that are kept: a recording may go back and forth between a few of them, ten
/// thousand times.
const KEPT: usize = 4;

/// Loads recorded sets.
pub(super) struct RecordedSets<'a> {
    options: &'a LoadOptions,
    /// The last ones, the latest first.
    kept: Vec<(Key, Arc<Engine>)>,
}

/// All of a recorded set.
struct Key {
    kernel: Option<String>,
    plugins: Vec<BootPlugin>,
    profile: PathBuf,
    text: String,
}

impl<'a> RecordedSets<'a> {
    pub(super) fn new(options: &'a LoadOptions) -> Self {
        RecordedSets { options, kept: Vec::new() }
    }

    /// The plugins of a set.
    pub(super) fn engine(&mut self, set: RecordedSet<'_>) -> anyhow::Result<Arc<Engine>> {
        let kept = match self.kept.iter().position(|(key, _)| key.is(set)) {
            Some(position) => self.kept.remove(position),
            None => {
                let engine = load(recorded(set)?, set.kernel, self.options);
                (Key::of(set), Arc::new(engine.map_err(with_a_way_out)?))
            }
        };
        let engine = kept.1.clone();
        self.kept.truncate(KEPT - 1);
        self.kept.insert(0, kept);
        Ok(engine)
    }
}

impl Key {
    fn of(set: RecordedSet<'_>) -> Self {
        Key {
            kernel: set.kernel.map(str::to_owned),
            plugins: set.plugins.to_vec(),
            profile: set.profile.to_owned(),
            text: set.text.to_owned(),
        }
    }

    fn is(&self, set: RecordedSet<'_>) -> bool {
        let Key { kernel, plugins, profile, text } = self;
        (kernel.as_deref(), plugins.as_slice()) == (set.kernel, set.plugins)
            && (profile.as_path(), text.as_str()) == (set.profile, set.text)
    }
}

/// The profile of a set, with only those plugins that ran.
pub(crate) fn recorded(set: RecordedSet<'_>) -> anyhow::Result<Profile> {
    let mut profile = Profile::parse(set.profile, set.text)?;
    profile.plugins.retain_mut(|plugin| {
        let mut ran = set.plugins.iter();
        let ran = ran.find(|ran| ran.path == plugin.path && plugin.shadow_of.is_none());
        // A text that is not a hash is found below.
        plugin.sha256 = ran.and_then(|ran| ran.sha256.parse().ok());
        plugin.replaced_by = ran.and_then(|ran| ran.replaced_by.clone());
        plugin.sha256.is_some()
    });
    if profile.plugins.len() != set.plugins.len() {
        bail!("its profile lacks plugins that it says ran; the recording was edited");
    }
    Ok(profile)
}

fn with_a_way_out(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref() {
        Some(LoadError::Module { path, source: ModuleError::Hash { .. } }) => anyhow!(
            "plugin {} is not the file that was recorded; to replay with another version of it, \
             name its profile with --profile",
            path.display()
        ),
        _ => error,
    }
}
