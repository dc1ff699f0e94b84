//! Runs a recording again, line by line.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use wasmsr_engine::record::{Line, RecordedSet};
use wasmsr_engine::replay::Replay;
use wasmsr_engine::{Engine, LoadOptions, Profile};

use crate::exit::Failure;
use crate::recording::reader::{Read, RecordingReader};

/// Loads a profile's plugins for the kernel of a recorded boot, which decides which
/// plugins yield. Shadows are left out: they do not answer.
pub(crate) fn load(
    mut profile: Profile,
    kernel: Option<&str>,
    options: &LoadOptions,
) -> anyhow::Result<Engine> {
    let kernel = kernel.and_then(|kernel| kernel.parse().ok());
    let options = LoadOptions { host_kernel: kernel, ..options.clone() };
    profile.plugins.retain(|plugin| plugin.shadow_of.is_none());
    profile.kernel_shadows.clear();
    let in_profile = || format!("profile {}", profile.path.display());
    Engine::load(&profile, &options).with_context(in_profile)
}

/// Where a set takes charge in a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A boot begins with it.
    Boot,
    /// It takes over from another set while the VM runs.
    Swap,
}

/// A line as it was recorded, and as it came this time.
pub(crate) struct Step<'a> {
    pub(crate) number: usize,
    pub(crate) was: &'a Line,
    pub(crate) came: &'a Line,
}

/// What is known once a recording has been run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Ran {
    /// Host calls without a recorded reply.
    pub(crate) unmatched: u64,
    /// Accesses that were not repeated, since there is no set for them.
    pub(crate) left_out: u64,
}

/// Replays the recording in `path` with the plugins that `engine_of` gives for each set,
/// and calls `seen` with every line. Where it gives none, the rest of the boot is left
/// out.
pub(crate) fn run(
    path: &Path,
    mut engine_of: impl FnMut(Occasion, RecordedSet<'_>) -> anyhow::Result<Option<Arc<Engine>>>,
    seen: &mut dyn FnMut(Step<'_>) -> Result<(), Failure>,
) -> Result<Ran, Failure> {
    let mut ran = Ran::default();
    let mut replay: Option<Replay> = None;
    let mut kernel = None;
    let mut leaves_out = false;
    let recording = RecordingReader::open(path)?;
    let name = recording.name().to_owned();
    for read in recording {
        let Read { number, line: was, .. } = read?;
        let at = || format!("recording {name}, line {number}");
        let set = match &was {
            Line::Boot(boot) => {
                ran.unmatched += replay.take().map_or(0, |replay| replay.unmatched());
                kernel.clone_from(&boot.kernel);
                leaves_out = false;
                Some((Occasion::Boot, boot.set()))
            }
            Line::Swap(swap) if !leaves_out => Some((Occasion::Swap, swap.set(kernel.as_deref()))),
            _ => None,
        };
        let engine = match set {
            Some((occasion, set)) => {
                let engine = engine_of(occasion, set).with_context(at).map_err(Failure::input)?;
                leaves_out = engine.is_none();
                engine
            }
            None => None,
        };
        if leaves_out {
            ran.left_out += u64::from(matches!(was, Line::Access(_)));
            continue;
        }
        let came = match (&was, engine, &mut replay) {
            (Line::Swap(swap), Some(engine), Some(replay)) => {
                let came = replay.swap(engine, swap);
                came.map(|came| Line::Swap(Box::new(came)))
            }
            (line, Some(engine), _) => replay.insert(Replay::new(engine)).step(line),
            (line, None, Some(replay)) => replay.step(line),
            // A recording begins with a boot.
            (_, None, None) => {
                let why = anyhow!("recording {name} does not begin with a boot");
                return Err(Failure::input(why));
            }
        };
        let came = came.with_context(at).map_err(Failure::input)?;
        seen(Step { number, was: &was, came: &came })?;
    }
    ran.unmatched += replay.map_or(0, |replay| replay.unmatched());
    Ok(ran)
}
