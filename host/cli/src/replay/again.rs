//! Runs a recording again, line by line.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use wasmsr_engine::record::{BootLine, Line};
use wasmsr_engine::replay::Replay;
use wasmsr_engine::{Engine, LoadOptions, Profile};

use crate::exit::Failure;
use crate::recording::reader::{Read, RecordingReader};

/// Loads a profile's plugins for the kernel of a recorded boot, which decides which
/// plugins yield. Shadows are left out: they do not answer.
pub(crate) fn load(
    mut profile: Profile,
    boot: &BootLine,
    options: &LoadOptions,
) -> anyhow::Result<Engine> {
    let kernel = boot.kernel.as_deref().and_then(|kernel| kernel.parse().ok());
    let options = LoadOptions { host_kernel: kernel, ..options.clone() };
    profile.plugins.retain(|plugin| plugin.shadow_of.is_none());
    profile.kernel_shadows.clear();
    let in_profile = || format!("profile {}", profile.path.display());
    Engine::load(&profile, &options).with_context(in_profile)
}

/// A line as it was recorded, and as it came this time.
pub(crate) struct Step<'a> {
    pub(crate) number: usize,
    pub(crate) was: &'a Line,
    pub(crate) came: &'a Line,
}

/// Replays the recording in `path` with the plugins that `engine_of` gives for each
/// boot, and calls `seen` with every line. Returns the number of host calls without a
/// recorded reply.
pub(crate) fn run(
    path: &Path,
    mut engine_of: impl FnMut(&BootLine) -> anyhow::Result<Engine>,
    seen: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let mut replay: Option<Replay> = None;
    let mut unmatched = 0;
    let recording = RecordingReader::open(path)?;
    let name = recording.name().to_owned();
    for read in recording {
        let Read { number, line: was, .. } = read?;
        let at = || format!("recording {name}, line {number}");
        if let Line::Boot(boot) = &was {
            unmatched += replay.map_or(0, |replay| replay.unmatched());
            let engine = engine_of(boot).with_context(at).map_err(Failure::input)?;
            replay = Some(Replay::new(Arc::new(engine)));
        }
        // A recording begins with a boot.
        let Some(replay) = &mut replay else {
            return Err(Failure::input(anyhow!("recording {name} does not begin with a boot")));
        };
        let came = replay.step(&was).with_context(at).map_err(Failure::input)?;
        seen(Step { number, was: &was, came: &came })?;
    }
    Ok(unmatched + replay.map_or(0, |replay| replay.unmatched()))
}
