//! `wasmsr replay`: runs plugins on a recording again, and lists the answers that differ.

mod again;
mod answer;
mod recorded;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use serde::Serialize;
use wasmsr_engine::record::{Line, RecordedSet};
use wasmsr_engine::{Engine, LoadOptions, Profile};
use wasmsr_interface::{MsrIndex, counted};

pub(crate) use self::again::{Occasion, Ran, Step, load, run};
pub(crate) use self::answer::{Answer, Deed, differ};
use self::recorded::RecordedSets;
pub(crate) use self::recorded::recorded;
use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::load_options;
use crate::recording::rewrite::NewRecording;
use crate::terminal::console::print;
use crate::terminal::plain::{json, plain, plain_up_to};
use crate::terminal::tables::table;

/// Replays a recording and lists the differences.
pub(crate) fn replay(args: &args::Replay) -> Result<Code, Failure> {
    let options = load_options(&args.cache);
    let mut report = Report::new(args);
    let mut blessed = args.bless.then(|| NewRecording::begin(&args.recording)).transpose()?;
    let mut sets = RecordedSets::new(&options);
    let engine_of = |occasion, set: RecordedSet<'_>| match &args.profile {
        Some(path) => of_profile(path, occasion, set, args, &options),
        None => sets.engine(set).map(Some),
    };
    let ran = run(&args.recording, engine_of, &mut |step| {
        report.add(&step);
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(step.came))
    })?;
    Ran { unmatched: report.unmatched, left_out: report.left_out } = ran;
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

/// The plugins of the profile that the user named. It is one set, so there is none for
/// what follows a swap.
fn of_profile(
    path: &Path,
    occasion: Occasion,
    set: RecordedSet<'_>,
    args: &args::Replay,
    options: &LoadOptions,
) -> anyhow::Result<Option<Arc<Engine>>> {
    match occasion {
        Occasion::Boot => load(Profile::read(path)?, set.kernel, options).map(Arc::new).map(Some),
        Occasion::Swap if args.bless => bail!(
            "another set of plugins takes charge here, and --profile names one; to bless what \
             comes before, make a recording of it with `wasmsr recording show --json --generation`"
        ),
        Occasion::Swap => Ok(None),
    }
}

/// Most plugins without a state that are named.
const MOST_UNSAVED: usize = 64;

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
    /// Times that another set took charge, and those at which they differ.
    swaps: u64,
    different_swaps: u64,
    /// Accesses that were not repeated: `--profile` has no set for them.
    left_out: u64,
    /// Plugins whose state is not known where the recording begins in a running VM.
    unsaved: BTreeSet<String>,
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
            swaps: 0,
            different_swaps: 0,
            left_out: 0,
            unsaved: BTreeSet::new(),
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
            Line::Boot(boot) => {
                self.boots += 1;
                let room = MOST_UNSAVED.saturating_sub(self.unsaved.len());
                self.unsaved.extend(boot.unsaved.iter().take(room).map(|name| plain(name)));
                self.other_plugins |= step.was != step.came;
            }
            Line::Access(was) => {
                self.accesses += 1;
                self.cut += u64::from(was.cut);
            }
            Line::Swap(_) => {
                self.swaps += 1;
                self.other_plugins |= step.was != step.came;
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
            Line::Swap(_) => self.different_swaps += 1,
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
        self.different + self.different_timers + self.different_starts + self.different_swaps
    }

    fn for_people(&self) -> String {
        let boots = counted(self.boots, "boot", "boots").to_string();
        let mut text = format!(
            "{}: {} of {} accesses in {} differ{}\n",
            plain_up_to(&self.recording, 200),
            self.different,
            self.accesses,
            match self.swaps {
                0 => boots,
                swaps => format!("{boots} with {}", counted(swaps, "swap", "swaps")),
            },
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
        note(self.different_swaps, "swap", "swaps", changed);
        note(
            self.left_out,
            "access was",
            "accesses were",
            "not repeated: another set of plugins answered, and --profile names one set, which \
             stands for the first of each boot",
        );
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
        if !self.unsaved.is_empty() {
            let names: Vec<&str> = self.unsaved.iter().map(String::as_str).collect();
            text += &format!(
                "the recording begins in a running VM, and does not have the state of {} then; \
                 answers may differ for that reason\n",
                names.join(", ")
            );
        }
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
