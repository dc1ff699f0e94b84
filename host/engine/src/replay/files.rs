//! The host's files in a replay. A plugin knows a file by the name of its grant; the
//! profile says where the file is, and that may have changed since the recording.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::engine::Engine;
use crate::manifest::Grant;
use crate::profile::{PluginConfig, Profile};
use crate::record::{HostCall, LoggedCall, PluginCall, RecordedSet};

/// Where files are in the present profile, by plugin and recorded path.
#[derive(Default)]
pub(super) struct Moved(BTreeMap<(String, PathBuf), PathBuf>);

impl Moved {
    pub(super) fn between(set: RecordedSet<'_>, engine: &Engine) -> Self {
        // A recorded profile that cannot be read says nothing about files.
        let Ok(recorded) = Profile::parse(set.profile, set.text) else {
            return Moved::default();
        };
        let mut moved = BTreeMap::new();
        for present in engine.plugins() {
            let name = &present.manifest.plugin.name;
            let of_set = set.plugins.iter().find(|plugin| plugin.name == *name);
            let was = of_set.and_then(|plugin| config(&recorded, &plugin.path));
            for (file, path) in was.into_iter().flat_map(files) {
                let now = files(present.config).find(|(granted, _)| *granted == file);
                if let Some((_, now)) = now.filter(|(_, now)| *now != path) {
                    moved.insert((name.clone(), path.to_owned()), now.to_owned());
                }
            }
        }
        Moved(moved)
    }

    /// Recorded calls with the paths of the present profile.
    pub(super) fn logged(&self, calls: &[PluginCall]) -> Vec<LoggedCall> {
        let calls = calls.iter().cloned();
        calls
            .map(|PluginCall { plugin, mut call }| {
                if let HostCall::HostFile { path, .. } = &mut call
                    && let Some(now) = self.0.get(&(plugin.clone(), path.clone()))
                {
                    path.clone_from(now);
                }
                LoggedCall { plugin: plugin.into(), call }
            })
            .collect()
    }
}

fn config<'a>(profile: &'a Profile, path: &Path) -> Option<&'a PluginConfig> {
    let mut plugins = profile.plugins.iter();
    plugins.find(|plugin| plugin.path == path && plugin.shadow_of.is_none())
}

/// The files that a plugin is granted, by name.
fn files(config: &PluginConfig) -> impl Iterator<Item = (&str, &Path)> {
    config.grant.iter().filter_map(|grant| match grant {
        Grant::HostFile { name, path } => Some((name.as_str(), path.as_path())),
        _ => None,
    })
}
