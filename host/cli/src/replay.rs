//! `wasmsr replay`: plugins run again on a recording, and what they answer
//! otherwise.

use std::fmt;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::Serialize;
use tempfile::NamedTempFile;
use wasmsr_engine::record::{
    Access, Boot, Ended, HostCall, Line, Lines, Op, RecordingError, Replay,
};
use wasmsr_engine::{Engine, LoadOptions, Profile};

use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::loaded::load_options;
use crate::tables::table;

/// Replays a recording and lists the differences.
pub(crate) fn replay(args: &args::Replay) -> Result<Code, Failure> {
    let options = load_options(&args.cache);
    let mut report = Report::new(args);
    let mut blessed = match args.bless {
        true => Some(Blessed::begin(&args.recording).map_err(Failure::input)?),
        false => None,
    };
    let run = run(&args.recording, |boot| engine_of(boot, args, &options), &mut |step| {
        report.add(&step);
        blessed.as_mut().map_or(Ok(()), |blessed| blessed.write(step.came))
    });
    report.unprompted = run.map_err(Failure::input)?;
    if let Some(blessed) = blessed.filter(|_| report.differs()) {
        blessed.finish().map_err(Failure::input)?;
        report.blessed = true;
    }
    let text = match args.json {
        true => serde_json::to_string_pretty(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if !report.differs() || report.blessed { Code::SUCCESS } else { Code::DIFFERENT })
}

/// A line of a recording, and as it came this time.
pub(crate) struct Step<'a> {
    pub(crate) number: usize,
    pub(crate) was: &'a Line,
    pub(crate) came: &'a Line,
}

/// Replays the recording in `path` with the plugins that `engine_of` gives each
/// boot, and shows every line. Returns how many host calls the recording had no
/// reply to.
pub(crate) fn run(
    path: &Path,
    mut engine_of: impl FnMut(&Boot) -> anyhow::Result<Arc<Engine>>,
    seen: &mut dyn FnMut(Step<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let mut replay: Option<Replay> = None;
    let mut unprompted = 0;
    for line in Lines::open(path)? {
        let (number, line) = match line {
            // What was recorded until then is as good as ever.
            Err(cut @ RecordingError::CutOff { .. }) => {
                tracing::warn!("{cut}");
                break;
            }
            line => line?,
        };
        if let Line::Boot(boot) = &line {
            unprompted += replay.map_or(0, |replay| replay.unprompted());
            replay = Some(Replay::new(engine_of(boot)?));
        }
        // Its first line is a boot, or it is no recording.
        let Some(replay) = &mut replay else { bail!("{} begins without a boot", path.display()) };
        let came = replay.step(&line);
        let came = came.with_context(|| format!("recording {}, line {number}", path.display()))?;
        seen(Step { number, was: &line, came: &came })?;
    }
    Ok(unprompted + replay.map_or(0, |replay| replay.unprompted()))
}

/// A recording that is written anew, with the answers that came.
pub(crate) struct Blessed {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl Blessed {
    /// Begins to write beside the recording in `path`.
    pub(crate) fn begin(path: &Path) -> anyhow::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let file = NamedTempFile::new_in(folder)
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        Ok(Blessed { file: BufWriter::new(file), path: path.to_owned() })
    }

    pub(crate) fn write(&mut self, line: &Line) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.file, line)?;
        self.file.write_all(b"\n")?;
        Ok(())
    }

    /// Puts it in the place of the recording.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let Blessed { file, path } = self;
        let cannot = || format!("cannot replace {}", path.display());
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error);
        let file: tempfile::PersistError = match file.with_context(cannot)?.persist(&path) {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        Err(file.error).with_context(cannot)
    }
}

/// The plugins of the profile that the user named, or those of the boot.
fn engine_of(
    boot: &Boot,
    args: &args::Replay,
    options: &LoadOptions,
) -> anyhow::Result<Arc<Engine>> {
    let profile = match &args.profile {
        Some(path) => Profile::read(path)?,
        None => Profile::parse(&boot.profile, &boot.text)?,
    };
    // Who yields depends on the host that recorded.
    let kernel = boot.kernel.as_deref().and_then(|kernel| kernel.parse().ok());
    let options = LoadOptions { host_kernel: kernel, ..options.clone() };
    let path = profile.path.display();
    let engine = Engine::load(&profile, &options).with_context(|| format!("profile {path}"))?;
    if args.profile.is_none() {
        warn_of_changes(boot, &engine);
    }
    Ok(Arc::new(engine))
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
            let access = match (recorded.op, recorded.value) {
                (Op::Write, Some(value)) => format!("write {:#x}", value.0),
                (Op::Write, None) => "write".to_owned(),
                (Op::Read, _) => "read".to_owned(),
            };
            table.add_row([
                line.to_string(),
                recorded.vcpu.to_string(),
                recorded.msr.to_string(),
                recorded.msr.name().unwrap_or("-").to_owned(),
                access,
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

/// An answer beside another, for people.
struct Answer<'a>(&'a Access, &'a Access);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer(access, other) = self;
        match (access.outcome, access.op, access.value) {
            (Ended::Handled, Op::Read, Some(value)) => write!(f, "{:#x}", value.0)?,
            (Ended::Handled, ..) => f.write_str("done")?,
            (Ended::Fault, ..) => f.write_str("#GP")?,
            (Ended::Kernel, ..) => f.write_str("left to KVM")?,
            (Ended::Stop, ..) => f.write_str("stop")?,
        }
        if access.failed {
            f.write_str(" (the plugin failed)")?;
        }
        if access.effects().eq(other.effects()) {
            return Ok(());
        }
        let mut effects = access.effects();
        match effects.next() {
            None => f.write_str(", changed nothing")?,
            Some(HostCall::GuestWrite { gpa, data, .. }) => {
                write!(f, ", {} bytes to GPA {:#x}", data.0.len(), gpa.0)?;
            }
            Some(HostCall::KvmWrmsr { msr, value, .. }) => {
                write!(f, ", KVM's {msr} = {:#x}", value.0)?;
            }
            Some(_) => {}
        }
        match effects.count() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
