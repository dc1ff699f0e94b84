//! A trace: a script with the answers that must come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::difference::{Difference, differences};
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
        if !self.steps().any(|(_, step)| ScriptLine::of(step).answer.is_some()) {
            return Err(TraceError::NothingAsked);
        }
        self.run(&mut self.rig(options)?, None)
    }

    /// Runs it once for each access, with a swap after it: all plugins are saved, and fresh
    /// ones restored. Returns the first swap that changes the answer of an access, against
    /// what comes without it.
    ///
    /// # Errors
    /// As [`replay`](Self::replay), and a swap that a plugin refuses.
    pub fn replay_swapped(&self, options: &LoadOptions) -> Result<Option<Swapped>, TraceError> {
        let mut rig = self.rig(options)?;
        let undisturbed = self.run(&mut rig, None)?;
        for (line, _) in self.steps().filter(|(_, step)| is_access(step)) {
            rig.start_over();
            let answered = self.run(&mut rig, Some(line))?;
            let lines = undisturbed.lines().zip(answered.lines());
            // When a timer is due, and what is reported, may well differ.
            let compared = lines.map(|(before, now)| if is_access(before) { now } else { before });
            let compared: String = compared.flat_map(|line| [line, "\n"]).collect();
            let differences = differences(&undisturbed, &compared);
            if !differences.is_empty() {
                return Ok(Some(Swapped { line, differences }));
            }
        }
        Ok(None)
    }

    fn rig(&self, options: &LoadOptions) -> Result<Rig, TraceError> {
        Rig::load(&self.profile, self.swaps.clone(), options)
    }

    fn steps(&self) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        (1..).zip(self.text.lines()).skip(self.above)
    }

    /// Takes all steps, with a swap after the one in this line.
    fn run(&self, rig: &mut Rig, swap_after: Option<usize>) -> Result<String, TraceError> {
        let above = self.text.lines().take(self.above);
        let mut answered: String = above.flat_map(|line| [line, "\n"]).collect();
        for (line, step) in self.steps() {
            let problem = |problem| TraceError::Step { line, text: step.to_owned(), problem };
            answered += &rig.step(step).map_err(problem)?;
            answered.push('\n');
            if swap_after == Some(line) {
                let swapped = rig.step("swap");
                swapped.map_err(|why| problem(format!("a swap after it: {why}")))?;
            }
        }
        Ok(answered)
    }
}

/// A swap that changes answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// The line of the access that it comes after, from 1.
    pub line: usize,
    /// The answers without it, which are the expected ones here, and with it.
    pub differences: Vec<Difference>,
}

fn is_access(step: &str) -> bool {
    matches!(step.split_whitespace().next(), Some("r" | "w"))
}
