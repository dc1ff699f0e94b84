//! `wasmsr replay`: plugins run again on a recording, and what they answer
//! otherwise.

mod again;
mod answer;

use std::path::PathBuf;

use serde::Serialize;
use wasmsr_engine::record::{Access, Boot, Line};
use wasmsr_engine::{Engine, LoadOptions, Profile};

pub(crate) use self::again::{Step, load, run};
pub(crate) use self::answer::{Answer, Deed, Timers};
use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::loaded::load_options;
use crate::recording::NewRecording;
use crate::tables::table;

/// Replays a recording and lists the differences.
pub(crate) fn replay(args: &args::Replay) -> Result<Code, Failure> {
    let options = load_options(&args.cache);
    let mut report = Report::new(args);
    let mut blessed = args.bless.then(|| NewRecording::begin(&args.recording)).transpose()?;
    let run = run(&args.recording, |boot| engine_of(boot, args, &options), &mut |step| {
        report.add(&step);
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(step.came))
    });
    report.unprompted = run?;
    if let Some(blessed) = blessed.filter(|_| report.differs()) {
        blessed.replace()?;
        report.blessed = true;
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if !report.differs() || report.blessed { Code::SUCCESS } else { Code::DIFFERENT })
}

/// The plugins of the profile that the user named, or those of the boot.
fn engine_of(boot: &Boot, args: &args::Replay, options: &LoadOptions) -> anyhow::Result<Engine> {
    let profile = match &args.profile {
        Some(path) => Profile::read(path)?,
        None => Profile::parse(&boot.profile, &boot.text)?,
    };
    let engine = load(&profile, boot, options)?;
    if args.profile.is_none() {
        warn_of_changes(boot, &engine);
    }
    Ok(engine)
}

fn warn_of_changes(boot: &Boot, engine: &Engine) {
    for plugin in engine.plugins() {
        let name = &plugin.manifest.plugin.name;
        let recorded = boot.plugins.iter().find(|recorded| recorded.name == *name);
        if recorded.is_some_and(|recorded| recorded.sha256 != plugin.sha256.to_string()) {
            tracing::warn!(
                "plugin {name}: {} is not the file that was recorded",
                plugin.config.path.display()
            );
        }
    }
}

/// What a replay has shown; its JSON is for programs.
#[derive(Serialize)]
struct Report {
    recording: PathBuf,
    profile: Option<PathBuf>,
    boots: u64,
    accesses: u64,
    different: u64,
    /// Timers at which plugins changed the guest or KVM otherwise.
    different_timers: u64,
    /// Host calls that the recording has no reply to.
    unprompted: u64,
    /// Accesses that the recording lacks.
    dropped: u64,
    /// Accesses whose host calls are not all there.
    cut: u64,
    blessed: bool,
    /// As many as were asked for.
    differences: Vec<Difference>,
    #[serde(skip)]
    limit: usize,
}

#[derive(Serialize)]
struct Difference {
    line: usize,
    recorded: Access,
    replayed: Access,
}

impl Report {
    fn new(args: &args::Replay) -> Self {
        Report {
            recording: args.recording.clone(),
            profile: args.profile.clone(),
            boots: 0,
            accesses: 0,
            different: 0,
            different_timers: 0,
            unprompted: 0,
            dropped: 0,
            cut: 0,
            blessed: false,
            differences: Vec::new(),
            limit: args.limit,
        }
    }

    fn add(&mut self, step: &Step<'_>) {
        match (step.was, step.came) {
            (Line::Boot(_), _) => self.boots += 1,
            (Line::Dropped(dropped), _) => {
                self.dropped = self.dropped.saturating_add(dropped.lines);
            }
            (Line::Access(was), Line::Access(came)) => {
                self.accesses += 1;
                self.cut += u64::from(was.cut);
                if !came.answered_as(was) {
                    self.different += 1;
                    if self.differences.len() < self.limit {
                        let (recorded, replayed) = (was.clone(), came.clone());
                        self.differences.push(Difference { line: step.number, recorded, replayed });
                    }
                }
            }
            (Line::Wake(was), Line::Wake(came)) => {
                self.different_timers += u64::from(!came.changed_as(was));
            }
            _ => {}
        }
    }

    fn differs(&self) -> bool {
        self.different + self.different_timers > 0
    }

    fn for_people(&self) -> String {
        let mut text = format!(
            "{}: {} of {} accesses in {} boot{} differ{}\n",
            self.recording.display(),
            self.different,
            self.accesses,
            self.boots,
            if self.boots == 1 { "" } else { "s" },
            if self.blessed { "ed; it has the new answers now" } else { "" },
        );
        let mut note = |count: u64, what: &str| {
            if count > 0 {
                text += &format!("{count} {what}\n");
            }
        };
        note(self.different_timers, "timers changed guest memory or KVM's MSRs otherwise");
        note(
            self.dropped,
            "accesses are missing in the recording; answers after them may differ for that",
        );
        note(self.cut, "accesses have more host calls than the recording holds");
        note(
            self.unprompted,
            "host calls were not recorded and were answered with what was last known",
        );
        if self.differences.is_empty() {
            return text;
        }
        let head = ["LINE", "VCPU", "MSR", "NAME", "ACCESS", "RECORDED", "REPLAYED"];
        let mut table = table(head, &[0, 1]);
        for Difference { line, recorded, replayed } in &self.differences {
            table.add_row([
                line.to_string(),
                recorded.vcpu.to_string(),
                recorded.msr.to_string(),
                recorded.msr.name().unwrap_or("-").to_owned(),
                Deed(recorded).to_string(),
                Answer(recorded, replayed).to_string(),
                Answer(replayed, recorded).to_string(),
            ]);
        }
        text += &format!("\n{}", table.trim_fmt());
        match self.different.saturating_sub(self.differences.len() as u64) {
            0 => text,
            more => format!("{text}\n and {more} more; --limit shows them"),
        }
    }
}
