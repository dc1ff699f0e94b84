//! Recordings as tests of a plugin: a recording is kept beside the crate, and run again
//! with the present plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use wasmsr_engine::manifest::Manifest;
use wasmsr_engine::profile::PluginConfig;
use wasmsr_engine::record::{
    AccessLine, BootLine, ENGINE, EndLine, Line, Op, PluginCall, RecordedSet,
};
use wasmsr_engine::{LoadOptions, Profile};
use wasmsr_interface::Direction;

use super::subject::Subject;
use crate::exit::Failure;
use crate::recording::reader::{Read, RecordingReader};
use crate::recording::rewrite::NewRecording;
use crate::replay::{Answer, Deed, Occasion, Step, differ, load, run};
use crate::terminal::plain::{plain, plain_up_to};

/// The extension of recordings that are tests.
pub(super) const ENDING: &str = "jsonl";

/// Most differences of one test that are listed.
pub(super) const MOST_DIFFERENCES: usize = 20;

/// The result of a recording with the present plugin.
pub(super) struct Rerun {
    /// The first differences: line, recorded text, present text.
    pub(super) differences: Vec<(usize, String, String)>,
    /// How many more there are.
    pub(super) more: u64,
    /// Host calls without a recorded reply.
    pub(super) unmatched: u64,
}

/// Runs a recording with the tested plugin and the plugins beside it, as a trace is
/// run. With `bless` the answers that differ are written into the recording.
pub(super) fn rerun(path: &Path, subject: &Subject, bless: bool) -> Result<Rerun, Failure> {
    let mut rerun = Rerun { differences: Vec::new(), more: 0, unmatched: 0 };
    let mut blessed = bless.then(|| NewRecording::begin(path)).transpose()?;
    let engine_of = |occasion, set: RecordedSet<'_>| {
        if occasion == Occasion::Swap {
            bail!("a test is of one set of plugins, and another takes charge here");
        }
        let mut profile = Profile::parse(set.profile, set.text)?;
        for plugin in &mut profile.plugins {
            plugin.path = subject.beside().join(plugin.path.file_name().unwrap_or_default());
            // The present file is tested, whatever its hash.
            plugin.sha256 = None;
        }
        subject.take_its_place(&mut profile)?;
        load(profile, set.kernel, &LoadOptions::default()).map(Arc::new).map(Some)
    };
    let mut tested = Vec::new();
    let ran = run(path, engine_of, &mut |step| {
        if let Line::Boot(boot) = step.was {
            tested = boot.plugins.iter().map(|plugin| plugin.name.clone()).collect();
        }
        let passed_on = passed_on(&step, &tested);
        let came = passed_on.as_ref().unwrap_or(step.came);
        rerun.compare(&Step { came, ..step });
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(came))
    })
    .map_err(plainly)?;
    rerun.unmatched = ran.unmatched;
    match blessed.filter(|_| !rerun.differences.is_empty()) {
        Some(blessed) => blessed.replace().map(|()| rerun),
        None => Ok(rerun),
    }
}

/// A failure with harmless text: it may quote the recording.
fn plainly(Failure { code, error }: Failure) -> Failure {
    Failure { code, error: anyhow!(plain_up_to(&format!("{error:#}"), 1000)) }
}

/// The expected line of an access that the tested plugin passed on and another plugin
/// decided, if the tested plugin passes it on again. The other plugin is not part of the
/// test, so its recorded answer counts.
fn passed_on(step: &Step<'_>, tested: &[String]) -> Option<Line> {
    let (Line::Access(was), Line::Access(came)) = (step.was, step.came) else { return None };
    let other = was.plugin.as_ref().is_some_and(|plugin| !tested.contains(plugin));
    (other && came.plugin.is_none()).then(|| {
        Line::Access(AccessLine { calls: came.calls.clone(), cut: came.cut, ..was.clone() })
    })
}

impl Rerun {
    /// Notes a line that differs.
    fn compare(&mut self, &Step { number, was, came }: &Step<'_>) {
        if !differ(was, came) {
            return;
        }
        if self.differences.len() >= MOST_DIFFERENCES {
            self.more += 1;
            return;
        }
        let place = match was {
            Line::Access(access) => format!("vCPU {}, {}: ", access.vcpu, access.msr.described()),
            Line::Wake(wake) => format!("vCPU {}, ", wake.vcpu),
            _ => String::new(),
        };
        let shown = |one, other| format!("{place}{} -> {}", Deed(was), Answer(one, other));
        self.differences.push((number, shown(was, came), shown(came, was)));
    }
}

/// A recording that has become a test.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    /// Accesses that the plugin was given, or that the policy decided.
    pub(super) accesses: u64,
    /// Accesses that other plugins answered without it.
    pub(super) left_out: u64,
}

/// Makes a recording a test of one plugin, in the folder `tests`. Other plugins are left
/// out, so the test needs no file but the plugin's.
pub(super) fn keep(recording: &Path, subject: &Subject, tests: &Path) -> Result<Kept, Failure> {
    let name = recording.file_stem().unwrap_or_default();
    let path = tests.join(name).with_extension(ENDING);
    let source = RecordingReader::open(recording)?;
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
    let Only { accesses, answered, left_out, name, unchanged, .. } = only;
    if answered == 0 {
        return Err(Failure::input(anyhow!(
            "recording {} has no access that plugin {name} answered; record one with `wasmsr run \
             --record`",
            recording.display()
        )));
    }
    kept.add()?;
    let kept = Kept { path, accesses, left_out };
    match unchanged {
        true => kept.or_none(subject),
        false => Ok(kept),
    }
}

impl Kept {
    /// The test, if the recorded plugin passes it. It may fail: its answers may depend on
    /// plugins that the test leaves out.
    fn or_none(self, subject: &Subject) -> Result<Self, Failure> {
        let why = match rerun(&self.path, subject, false) {
            Ok(Rerun { differences, .. }) => match differences.into_iter().next() {
                None => return Ok(self),
                Some((line, was, came)) => anyhow!("line {line}: {was}, alone {came}"),
            },
            Err(failure) => failure.error,
        };
        // This run has just made it.
        fs::remove_file(&self.path).map_err(Failure::host)?;
        Err(Failure::input(why.context(format!(
            "{} is not made a test, since the plugin that was recorded fails it",
            self.path.display()
        ))))
    }
}

/// Reduces lines to one plugin.
struct Only {
    name: String,
    file: String,
    sha256: String,
    /// Whether every boot was recorded with this very file.
    unchanged: bool,
    /// The file's manifest, and below it the same with the claims that the boot's profile
    /// lists.
    manifest: Manifest,
    in_boot: Manifest,
    /// The plugins that come after it.
    later: Vec<String>,
    accesses: u64,
    /// Those of them that the plugin answered.
    answered: u64,
    left_out: u64,
    /// Kept lines of the boot.
    lines: u64,
}

impl Only {
    fn new(subject: &Subject) -> Self {
        let file = subject.wasm.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let manifest = subject.inspection.manifest.clone();
        Only {
            name: manifest.plugin.name.clone(),
            file,
            sha256: subject.inspection.sha256.to_string(),
            unchanged: true,
            in_boot: manifest.clone(),
            manifest,
            later: Vec::new(),
            accesses: 0,
            answered: 0,
            left_out: 0,
            lines: 0,
        }
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
                if !self.was_asked(&access) {
                    self.left_out += 1;
                    return Ok(None);
                }
                self.accesses += 1;
                self.answered += u64::from(access.plugin.as_ref() == Some(&self.name));
                self.lines += 1;
                self.own_calls(&mut access.calls);
                Line::Access(access)
            }
            Line::Wake(mut wake) => {
                self.lines += 1;
                self.own_calls(&mut wake.calls);
                Line::Wake(wake)
            }
            Line::Swap(swap) => bail!(
                "generation {} takes charge in this boot, and a test is of one set of plugins; \
                 make a recording of one, as with `wasmsr recording show --json --generation 1`",
                swap.generation
            ),
            Line::Dropped(dropped) => Line::Dropped(dropped),
            Line::End(end) => Line::End(EndLine { lines: self.lines, ..end }),
        }))
    }

    /// The boot with this plugin alone in its profile.
    fn boot(&mut self, mut boot: BootLine) -> anyhow::Result<BootLine> {
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
        let config = position.and_then(|position| profile.plugins.get(position));
        let mut text: toml::Table = boot.text.parse()?;
        let tables = text.get_mut("plugin").and_then(toml::Value::as_array_mut);
        let (Some(position), Some(config), Some(tables)) = (position, config, tables) else {
            bail!("its profile has no [[plugin]] {}; the recording was edited", own.path.display());
        };
        // They are not among the profile's plugins.
        tables.retain(|table| table.get("kernel").and_then(toml::Value::as_bool) != Some(true));
        self.in_boot = self.manifest.clone().with_listed_claims(&config.config)?;
        self.unchanged &= own.sha256 == self.sha256;
        let names = boot.plugins.iter().map(|plugin| &plugin.name);
        self.later = names.skip_while(|name| **name != self.name).skip(1).cloned().collect();
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

    /// Whether the plugin may have been given an access: it answered, or it may have
    /// passed on what the policy or a later plugin decided.
    fn was_asked(&self, access: &AccessLine) -> bool {
        let direction = match access.op {
            Op::Read => Direction::Read,
            Op::Write => Direction::Write,
        };
        let mut claims = self.in_boot.msr.iter();
        match &access.plugin {
            None => true,
            Some(plugin) if *plugin == self.name => true,
            Some(plugin) => {
                self.later.contains(plugin)
                    && claims.any(|claim| {
                        claim.range.contains(access.msr) && claim.access.contains(direction)
                    })
            }
        }
    }

    fn own_calls(&self, calls: &mut Vec<PluginCall>) {
        calls.retain(|call| call.plugin == self.name || call.plugin == ENGINE);
    }
}
