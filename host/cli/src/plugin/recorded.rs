//! Recordings as tests of a plugin: one that is kept beside the crate, and run
//! again with the plugin as it is now.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use wasmsr_engine::manifest::Manifest;
use wasmsr_engine::profile::PluginConfig;
use wasmsr_engine::record::{AccessLine, BootLine, ENGINE, EndLine, Line, Op, PluginCall};
use wasmsr_engine::{LoadOptions, Profile};
use wasmsr_interface::Direction;

use super::subject::Subject;
use super::test::MOST_DIFFERENCES;
use crate::exit::Failure;
use crate::plain::{plain, plain_up_to};
use crate::recording::{NewRecording, Read, Recording};
use crate::replay::{Answer, Deed, Step, differ, load, run};

/// How the files of recordings that are tests end.
pub(super) const ENDING: &str = "jsonl";

/// What a recording shows of the present plugin.
pub(super) struct Rerun {
    /// The first of the differences: line, what was recorded, what came.
    pub(super) differences: Vec<(usize, String, String)>,
    /// How many more there are.
    pub(super) more: u64,
    /// Host calls that were not recorded.
    pub(super) unmatched: u64,
}

/// Runs a recording with the subject and the plugins beside it, as a trace is
/// run. With `bless` the answers that differ are written into it.
pub(super) fn rerun(path: &Path, subject: &Subject, bless: bool) -> Result<Rerun, Failure> {
    let mut rerun = Rerun { differences: Vec::new(), more: 0, unmatched: 0 };
    let mut blessed = bless.then(|| NewRecording::begin(path)).transpose()?;
    let engine_of = |boot: &BootLine| {
        let mut profile = Profile::parse(&boot.profile, &boot.text)?;
        for plugin in &mut profile.plugins {
            plugin.path = subject.beside().join(plugin.path.file_name().unwrap_or_default());
            // The test is of what is there now.
            plugin.sha256 = None;
        }
        subject.take_its_place(&mut profile)?;
        load(profile, boot, &LoadOptions::default())
    };
    let mut tested = Vec::new();
    rerun.unmatched = run(path, engine_of, &mut |step| {
        if let Line::Boot(boot) = step.was {
            tested = boot.plugins.iter().map(|plugin| plugin.name.clone()).collect();
        }
        let passed_on = passed_on(&step, &tested);
        let came = passed_on.as_ref().unwrap_or(step.came);
        rerun.hold(&Step { came, ..step });
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(came))
    })
    .map_err(plainly)?;
    match blessed.filter(|_| !rerun.differences.is_empty()) {
        Some(blessed) => blessed.replace().map(|()| rerun),
        None => Ok(rerun),
    }
}

/// A failure without what in a recording commands terminals.
fn plainly(Failure { code, error }: Failure) -> Failure {
    Failure { code, error: anyhow!(plain_up_to(&format!("{error:#}"), 1000)) }
}

/// An access that the tested plugin was asked for, and another decided, as it
/// is to be when the tested one passes it on again. What the other would have
/// answered now is nobody's to know.
fn passed_on(step: &Step<'_>, tested: &[String]) -> Option<Line> {
    let (Line::Access(was), Line::Access(came)) = (step.was, step.came) else { return None };
    let other = was.plugin.as_ref().is_some_and(|plugin| !tested.contains(plugin));
    (other && came.plugin.is_none()).then(|| {
        Line::Access(AccessLine { calls: came.calls.clone(), cut: came.cut, ..was.clone() })
    })
}

impl Rerun {
    /// Notes a line that came out otherwise.
    fn hold(&mut self, &Step { number, was, came }: &Step<'_>) {
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

/// A recording that is now a test.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    /// Accesses that the plugin was asked for, or the policy decided.
    pub(super) accesses: u64,
    /// Those that other plugins answered without it.
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
    /// The test, if the plugin passes it that was recorded, as it must: what it
    /// answers may depend on what the test does not have.
    fn or_none(self, subject: &Subject) -> Result<Self, Failure> {
        let why = match rerun(&self.path, subject, false) {
            Ok(Rerun { differences, .. }) => match differences.into_iter().next() {
                None => return Ok(self),
                Some((line, was, came)) => anyhow!("line {line}: {was}, alone {came}"),
            },
            Err(failure) => failure.error,
        };
        // It appeared a moment ago.
        fs::remove_file(&self.path).map_err(Failure::host)?;
        Err(Failure::input(why.context(format!(
            "{} makes no test, the plugin that was recorded fails it",
            self.path.display()
        ))))
    }
}

/// Takes lines for what they hold of one plugin.
struct Only {
    name: String,
    file: String,
    sha256: String,
    /// Whether it is the file that was recorded, in every boot.
    unchanged: bool,
    /// What the file says, without and with what the profile of the boot lists.
    manifest: Manifest,
    in_boot: Manifest,
    /// The plugins that are asked after it.
    later: Vec<String>,
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
            Line::Dropped(dropped) => Line::Dropped(dropped),
            Line::End(end) => Line::End(EndLine { lines: self.lines, ..end }),
        }))
    }

    /// The boot as if its profile had this plugin alone.
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

    /// What the policy decided, the plugin may have passed on, and so it has
    /// what it claims and a later plugin answered.
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
