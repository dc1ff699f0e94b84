//! `wasmsr replay`: runs plugins on a recording again, and lists the answers that differ.

mod again;
mod answer;

use anyhow::{anyhow, bail};
use serde::Serialize;
use wasmsr_engine::plugin::ModuleError;
use wasmsr_engine::record::{BootLine, Line};
use wasmsr_engine::{Engine, LoadError, LoadOptions, Profile};
use wasmsr_interface::{MsrIndex, counted};

pub(crate) use self::again::{Step, load, run};
pub(crate) use self::answer::{Answer, Deed, differ};
use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::load_options;
use crate::recording::rewrite::NewRecording;
use crate::terminal::console::print;
use crate::terminal::plain::{json, plain_up_to};
use crate::terminal::tables::table;

/// Replays a recording and lists the differences.
pub(crate) fn replay(args: &args::Replay) -> Result<Code, Failure> {
    let options = load_options(&args.cache);
    let mut report = Report::new(args);
    let mut blessed = args.bless.then(|| NewRecording::begin(&args.recording)).transpose()?;
    let run = run(&args.recording, |boot| engine_of(boot, args, &options), &mut |step| {
        report.add(&step);
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(step.came))
    });
    report.unmatched = run?;
    if let Some(blessed) = blessed.filter(|_| report.differs() || report.other_plugins) {
        blessed.replace()?;
        report.blessed = true;
    }
    let text = match args.json {
        true => json(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if !report.differs() || report.blessed { Code::SUCCESS } else { Code::DIFFERENT })
}

/// The plugins of the profile that the user named, or those of the boot.
fn engine_of(
    boot: &BootLine,
    args: &args::Replay,
    options: &LoadOptions,
) -> anyhow::Result<Engine> {
    match &args.profile {
        Some(path) => load(Profile::read(path)?, boot, options),
        None => load(recorded(boot)?, boot, options).map_err(with_a_way_out),
    }
}

/// The profile of a boot, with only those plugins that ran. The recording may come from
/// a stranger, so a path in it is not enough to run a file: the hash must match.
pub(crate) fn recorded(boot: &BootLine) -> anyhow::Result<Profile> {
    let mut profile = Profile::parse(&boot.profile, &boot.text)?;
    profile.plugins.retain_mut(|plugin| {
        let mut ran = boot.plugins.iter();
        let ran = ran.find(|ran| ran.path == plugin.path && plugin.shadow_of.is_none());
        // A text that is not a hash is found below.
        plugin.sha256 = ran.and_then(|ran| ran.sha256.parse().ok());
        plugin.sha256.is_some()
    });
    if profile.plugins.len() != boot.plugins.len() {
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

/// The result of a replay; its JSON is for programs.
#[derive(Serialize)]
struct Report {
    recording: String,
    profile: Option<String>,
    boots: u64,
    accesses: u64,
    different: u64,
    /// Timers at which the plugins' changes differ.
    different_timers: u64,
    /// Boots at whose start they differ.
    different_starts: u64,
    /// Host calls without a recorded reply.
    unmatched: u64,
    /// Accesses that the recording lacks.
    dropped: u64,
    /// Accesses whose host calls are not all there.
    cut: u64,
    blessed: bool,
    /// The first differences, up to `--limit`.
    differences: Vec<Difference>,
    #[serde(skip)]
    limit: usize,
    /// Whether the plugins are others than those that were recorded.
    #[serde(skip)]
    other_plugins: bool,
}

#[derive(Serialize)]
struct Difference {
    line: usize,
    recorded: Line,
    replayed: Line,
}

impl Report {
    fn new(args: &args::Replay) -> Self {
        Report {
            recording: args.recording.to_string_lossy().into_owned(),
            profile: args.profile.as_ref().map(|path| path.to_string_lossy().into_owned()),
            boots: 0,
            accesses: 0,
            different: 0,
            different_timers: 0,
            different_starts: 0,
            unmatched: 0,
            dropped: 0,
            cut: 0,
            blessed: false,
            differences: Vec::new(),
            limit: args.limit,
            other_plugins: false,
        }
    }

    fn add(&mut self, step: &Step<'_>) {
        match step.was {
            Line::Boot(_) => {
                self.boots += 1;
                self.other_plugins |= step.was != step.came;
            }
            Line::Access(was) => {
                self.accesses += 1;
                self.cut += u64::from(was.cut);
            }
            Line::Dropped(dropped) => self.dropped = self.dropped.saturating_add(dropped.lines),
            _ => {}
        }
        if !differ(step.was, step.came) {
            return;
        }
        match step.was {
            Line::Wake(_) => self.different_timers += 1,
            Line::Start(_) => self.different_starts += 1,
            _ => self.different += 1,
        }
        if self.differences.len() < self.limit {
            let (recorded, replayed) = (step.was.clone(), step.came.clone());
            self.differences.push(Difference { line: step.number, recorded, replayed });
        }
    }

    fn differs(&self) -> bool {
        self.all_differences() > 0
    }

    fn all_differences(&self) -> u64 {
        self.different + self.different_timers + self.different_starts
    }

    fn for_people(&self) -> String {
        let mut text = format!(
            "{}: {} of {} accesses in {} differ{}\n",
            plain_up_to(&self.recording, 200),
            self.different,
            self.accesses,
            counted(self.boots, "boot", "boots"),
            if self.blessed { "ed; it has the new answers now" } else { "" },
        );
        let mut note = |count: u64, one: &'static str, many: &'static str, what: &str| {
            if count > 0 {
                text += &format!("{} {what}\n", counted(count, one, many));
            }
        };
        let changed = "changed guest memory or KVM's MSRs in another way";
        note(self.different_timers, "timer", "timers", changed);
        note(self.different_starts, "start", "starts", changed);
        note(
            self.dropped,
            "access or timer is",
            "accesses and timers are",
            "missing in the recording; later answers may differ for that reason",
        );
        note(self.cut, "access has", "accesses have", "more host calls than were recorded");
        note(
            self.unmatched,
            "host call has",
            "host calls have",
            "no recorded reply and got the last one known",
        );
        if self.differences.is_empty() {
            return text;
        }
        let head = ["LINE", "VCPU", "MSR", "NAME", "ACCESS", "RECORDED", "REPLAYED"];
        let mut table = table(head, &[0, 1]);
        for Difference { line, recorded, replayed } in &self.differences {
            let (vcpu, msr) = match recorded {
                Line::Access(access) => (Some(access.vcpu), Some(access.msr)),
                Line::Wake(wake) => (Some(wake.vcpu), None),
                _ => (None, None),
            };
            let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            table.add_row([
                line.to_string(),
                or_none(vcpu.map(|vcpu| vcpu.to_string())),
                or_none(msr.map(|msr| msr.to_string())),
                msr.and_then(MsrIndex::name).unwrap_or("-").to_owned(),
                Deed(recorded).to_string(),
                Answer(recorded, replayed).to_string(),
                Answer(replayed, recorded).to_string(),
            ]);
        }
        text += &format!("\n{}", table.trim_fmt());
        match self.all_differences().saturating_sub(self.differences.len() as u64) {
            0 => text,
            more => format!("{text}\n and {more} more; --limit shows them"),
        }
    }
}
