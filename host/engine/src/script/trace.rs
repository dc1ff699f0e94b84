//! A trace: a script with the answers that must come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::TraceError;
use super::line::ScriptLine;
use super::rig::Rig;
use super::step::Step;
use super::tables::parse_profile;
use crate::engine::LoadOptions;
use crate::profile::Profile;

/// A trace that was read. Its profile may still be changed.
pub struct Trace<'a> {
    /// The tables above the steps; what they boot is never booted.
    pub profile: Profile,
    /// The files of `swap` steps, by their names in the trace. They may be changed too.
    pub swaps: BTreeMap<String, PathBuf>,
    text: &'a str,
    /// Lines before the first step.
    above: usize,
}

impl<'a> Trace<'a> {
    /// Reads a trace whose plugins lie in `directory`.
    ///
    /// # Errors
    /// [`TraceError`] for a profile that is none, with its place in the trace.
    pub fn parse(text: &'a str, directory: &Path) -> Result<Self, TraceError> {
        let line = text.lines().position(|line| line.trim_end() == "---");
        let tables = line.ok_or(TraceError::NoSteps)?;
        let profile: String = text.split_inclusive('\n').take(tables).collect();
        let above = tables + 1;
        let steps = text.lines().skip(above).filter_map(|line| {
            match Step::parse(ScriptLine::of(line)) {
                Ok(Some(Step::Swap(file))) => file,
                // What is wrong with a step is told when it is taken.
                _ => None,
            }
        });
        let swaps = steps.map(|file| (file.clone(), directory.join(file))).collect();
        Ok(Trace { profile: parse_profile(&profile, directory)?, swaps, text, above })
    }

    /// Runs it, and returns its text with the answers that came: the same, if
    /// they were the expected ones.
    ///
    /// # Errors
    /// [`TraceError`] for plugins that do not load, a step that cannot be
    /// taken, and a trace that would pass whatever came. An unexpected answer
    /// is not an error.
    pub fn replay(&self, options: &LoadOptions) -> Result<String, TraceError> {
        let steps = || (1..).zip(self.text.lines()).skip(self.above);
        if !steps().any(|(_, step)| ScriptLine::of(step).answer.is_some()) {
            return Err(TraceError::NothingAsked);
        }
        let mut rig = Rig::load(&self.profile, self.swaps.clone(), options)?;
        let above = self.text.lines().take(self.above);
        let mut answered: String = above.flat_map(|line| [line, "\n"]).collect();
        for (line, step) in steps() {
            answered += &rig.step(step).map_err(|problem| {
                let text = step.to_owned();
                TraceError::Step { line, text, problem }
            })?;
            answered.push('\n');
        }
        Ok(answered)
    }
}
