//! Recordings as tests of a plugin: one that is kept beside the crate, and run
//! again with the plugin as it is now.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use wasmsr_engine::profile::PluginConfig;
use wasmsr_engine::record::{Access, Boot, ENGINE, End, Line, PluginCall};
use wasmsr_engine::{LoadOptions, Profile};

use super::subject::Subject;
use super::test::MOST_DIFFERENCES;
use crate::exit::Failure;
use crate::plain::plain;
use crate::recording::{NewRecording, Read, Recording};
use crate::replay::{Answer, Deed, Timers, load, run};

/// How the files of recordings that are tests end.
pub(super) const ENDING: &str = "jsonl";

/// What a recording shows of the present plugin.
pub(super) struct Rerun {
    /// The first of the differences: line, what was recorded, what came.
    pub(super) differences: Vec<(usize, String, String)>,
    /// How many more there are.
    pub(super) more: u64,
    /// Host calls that were not recorded.
    pub(super) unprompted: u64,
}

/// Runs a recording with the subject and the plugins beside it, as a trace is
/// run. With `bless` the answers that differ are written into it.
pub(super) fn rerun(path: &Path, subject: &Subject, bless: bool) -> Result<Rerun, Failure> {
    let mut rerun = Rerun { differences: Vec::new(), more: 0, unprompted: 0 };
    let mut blessed = bless.then(|| NewRecording::begin(path)).transpose()?;
    let engine_of = |boot: &Boot| {
        let mut profile = Profile::parse(&boot.profile, &boot.text)?;
        for plugin in &mut profile.plugins {
            plugin.path = subject.beside().join(plugin.path.file_name().unwrap_or_default());
            // The test is of what is there now.
            plugin.sha256 = None;
        }
        subject.take_its_place(&mut profile)?;
        load(&profile, boot, &LoadOptions::default())
    };
    rerun.unprompted = run(path, engine_of, &mut |step| {
        match (step.was, step.came) {
            (Line::Access(was), Line::Access(came)) if !came.answered_as(was) => {
                let deed = format!("vCPU {}, {}: {}", was.vcpu, was.msr.described(), Deed(was));
                let shown = |one, other| format!("{deed} -> {}", Answer(one, other));
                rerun.note(step.number, shown(was, came), shown(came, was));
            }
            (Line::Wake(was), Line::Wake(came)) if !came.changed_as(was) => {
                let shown = |wake| format!("vCPU {}, timers -> {}", was.vcpu, Timers(wake));
                rerun.note(step.number, shown(was), shown(came));
            }
            _ => {}
        }
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(step.came))
    })?;
    match blessed.filter(|_| !rerun.differences.is_empty()) {
        Some(blessed) => blessed.replace().map(|()| rerun),
        None => Ok(rerun),
    }
}

impl Rerun {
    fn note(&mut self, line: usize, was: String, came: String) {
        match self.differences.len() < MOST_DIFFERENCES {
            true => self.differences.push((line, was, came)),
            false => self.more += 1,
        }
    }
}

/// A recording that is now a test.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    /// Accesses that the plugin answered, or passed on to the policy.
    pub(super) accesses: u64,
    /// Those that other plugins answered.
    pub(super) left_out: u64,
}

/// Makes a recording a test of one plugin, in the folder `tests`: what it holds
/// of other plugins is left out, so it needs no file but the plugin's.
pub(super) fn keep(recording: &Path, subject: &Subject, tests: &Path) -> Result<Kept, Failure> {
    let name = recording.file_stem().unwrap_or_default();
    let path = tests.join(name).with_extension(ENDING);
    let source = Recording::open(recording)?;
    if path.symlink_metadata().is_ok() {
        return Err(Failure::input(anyhow!(
            "{} exists already; give the recording another name",
            path.display()
        )));
    }
    fs::create_dir_all(tests)
        .with_context(|| format!("cannot make the folder {}", tests.display()))
        .map_err(Failure::input)?;
    let mut kept = NewRecording::begin(&path)?;
    let mut only = Only::new(subject);
    for read in source {
        let Read { number, line, .. } = read?;
        let at = || format!("recording {}, line {number}", recording.display());
        if let Some(line) = only.of(line).with_context(at).map_err(Failure::input)? {
            kept.write(&line)?;
        }
    }
    let Only { accesses, answered, left_out, name, .. } = only;
    if answered == 0 {
        return Err(Failure::input(anyhow!(
            "recording {} has no access that plugin {name} answered; record one with `wasmsr run \
             --record`",
            recording.display()
        )));
    }
    kept.add()?;
    Ok(Kept { path, accesses, left_out })
}

/// Takes lines for what they hold of one plugin.
struct Only {
    name: String,
    file: String,
    accesses: u64,
    /// Those among them that the plugin answered.
    answered: u64,
    left_out: u64,
    /// Lines of the boot that are kept.
    lines: u64,
}

impl Only {
    fn new(subject: &Subject) -> Self {
        let file = subject.wasm.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = subject.inspection.manifest.plugin.name.clone();
        Only { name, file, accesses: 0, answered: 0, left_out: 0, lines: 0 }
    }

    fn of(&mut self, line: Line) -> anyhow::Result<Option<Line>> {
        Ok(Some(match line {
            Line::Boot(boot) => {
                self.lines = 0;
                Line::Boot(Box::new(self.boot(*boot)?))
            }
            Line::Start(mut start) => {
                self.own_calls(&mut start.calls);
                Line::Start(start)
            }
            Line::Access(mut access) => {
                if !self.is_own(&access) {
                    self.left_out += 1;
                    return Ok(None);
                }
                self.accesses += 1;
                self.answered += u64::from(access.plugin.is_some());
                self.lines += 1;
                self.own_calls(&mut access.calls);
                Line::Access(access)
            }
            Line::Wake(mut wake) => {
                self.lines += 1;
                self.own_calls(&mut wake.calls);
                Line::Wake(wake)
            }
            Line::Dropped(dropped) => Line::Dropped(dropped),
            Line::End(end) => Line::End(End { lines: self.lines, ..end }),
        }))
    }

    /// The boot as if its profile had this plugin alone.
    fn boot(&self, mut boot: Boot) -> anyhow::Result<Boot> {
        let Some(own) = boot.plugins.iter().find(|plugin| plugin.name == self.name) else {
            let names: Vec<String> =
                boot.plugins.iter().map(|plugin| plain(&plugin.name)).collect();
            bail!(
                "boot {} ran without plugin {}; it had {}",
                boot.boot,
                self.name,
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
        };
        let profile = Profile::parse(&boot.profile, &boot.text)?;
        let is_own = |plugin: &PluginConfig| plugin.path == own.path && plugin.shadow_of.is_none();
        let position = profile.plugins.iter().position(is_own);
        let mut text: toml::Table = boot.text.parse()?;
        let tables = text.get_mut("plugin").and_then(toml::Value::as_array_mut);
        let (Some(position), Some(tables)) = (position, tables) else {
            bail!("its profile has no [[plugin]] {}; the recording was edited", own.path.display());
        };
        let mut table = tables.swap_remove(position);
        if let Some(table) = table.as_table_mut() {
            table.insert("path".into(), self.file.clone().into());
            table.remove("sha256");
        }
        *tables = vec![table];
        boot.text = toml::to_string(&text)?;
        boot.plugins.retain(|plugin| plugin.name == self.name);
        Ok(boot)
    }

    /// What other plugins answered is not this one's; what the policy decided
    /// may be what it has passed on.
    fn is_own(&self, access: &Access) -> bool {
        access.plugin.as_ref().is_none_or(|plugin| *plugin == self.name)
    }

    fn own_calls(&self, calls: &mut Vec<PluginCall>) {
        calls.retain(|call| call.plugin == self.name || call.plugin == ENGINE);
    }
}
