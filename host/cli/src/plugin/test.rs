//! `wasmsr plugin test`: runs the tests beside a plugin in the real engine, without KVM.
//! Each kind of file has a function that runs it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::Serialize;
use wasmsr_engine::script::{self, Difference, Swapped, Trace};
use wasmsr_engine::{LoadOptions, text_file};
use wasmsr_interface::counted;

use super::recording_test::{self, Kept, MOST_DIFFERENCES, Rerun};
use super::subject::Subject;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::{print, say, stdout_is_coloured};
use crate::terminal::plain::{plain_up_to, pretty_json};
use crate::terminal::progress::Progress;
use crate::whole_file::WholeFile;

/// Runs the tests of a plugin. Code 1 if one fails.
pub(crate) fn test(args: &args::Test) -> Result<Code, Failure> {
    let subject = Subject::get(&args.subject)?;
    let tests = args.traces.clone().unwrap_or_else(|| subject.folder.join("traces"));
    if let Some(recording) = &args.add {
        let Kept { path, accesses, left_out } = recording_test::keep(recording, &subject, &tests)?;
        let others = match left_out {
            0 => String::new(),
            _ => format!(", without {left_out} that other plugins answered"),
        };
        let accesses = counted(accesses, "access", "accesses");
        say(&format!("wasmsr: {} is a test now: {accesses}{others}", path.display()));
    }
    let files = files(&tests, args.filter.as_deref())?;
    let mut progress = Progress::of_steps(files.len());
    let results = files.iter().map(|(path, run)| {
        let answers = if args.bless { Answers::Bless } else { Answers::Compare };
        let verdict = match run(path, &subject, answers) {
            Verdict::Passed if args.swaps => run_swapped(path, &subject),
            verdict => verdict,
        };
        progress.advance(1);
        TestResult { file: path.display().to_string(), verdict }
    });
    let report = Report::new(results.collect());
    drop(progress);
    let text = match args.json {
        true => pretty_json(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if report.failed > 0 { Code::DIFFERENT } else { Code::SUCCESS })
}

/// What to do with answers that differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Compare,
    Bless,
}

/// Longest line that is shown, in characters.
const LONGEST_LINE: usize = 4096;

/// Runs one file with the tested plugin, and other plugins from its folder.
type Run = fn(&Path, &Subject, Answers) -> Verdict;

/// The kinds of tests, by the extension of the file.
const KINDS: &[(&str, Run)] = &[("trace", run_trace), (recording_test::ENDING, run_recording)];

/// The tests in a folder, in order of their names.
fn files(folder: &Path, filter: Option<&str>) -> Result<Vec<(PathBuf, Run)>, Failure> {
    let kind = |path: &Path| {
        let extension = path.extension()?.to_str()?;
        KINDS.iter().find(|(kind, _)| *kind == extension).map(|(_, run)| *run)
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .with_context(|| format!("traces {}", folder.display()))
            .map_err(Failure::input)?,
    };
    let mut all: Vec<(PathBuf, Run)> = entries
        .into_iter()
        .filter_map(|entry| Some((entry.path(), kind(&entry.path())?)))
        .collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    if all.is_empty() {
        return Err(Failure::input(anyhow!(
            "no test in {}; write a NAME.trace there (docs/traces.md), make a recording a test \
             with --add, or name another folder with --traces",
            folder.display()
        )));
    }
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(filter) = filter else { return Ok(all) };
    let names: Vec<String> = all.iter().map(|(path, _)| name(path)).collect();
    all.retain(|(path, _)| name(path).contains(filter));
    match all.is_empty() {
        false => Ok(all),
        true => Err(Failure::input(anyhow!(
            "no test in {} has `{filter}` in its name; there are {}",
            folder.display(),
            names.join(", ")
        ))),
    }
}

/// The result of one test.
#[derive(Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict")]
enum Verdict {
    Passed,
    /// It differed, and has the new answers now.
    Blessed {
        differences: Vec<Line>,
        /// How many more there are.
        more: u64,
    },
    Failed {
        differences: Vec<Line>,
        more: u64,
        /// The line of the access after which a swap changes them; `None` if they differ
        /// without one.
        #[serde(skip_serializing_if = "Option::is_none")]
        swap_after: Option<usize>,
    },
    /// It could not be run to its end.
    Broken {
        why: String,
    },
}

/// A line that differs.
#[derive(Serialize)]
struct Line {
    line: usize,
    expected: String,
    came: String,
}

impl From<Difference> for Line {
    fn from(Difference { line, expected, came }: Difference) -> Self {
        Line { line, expected, came }
    }
}

/// Most bytes of a trace.
const LARGEST_TRACE: u64 = 16 << 20;

/// Runs a trace: accesses with expected answers.
fn run_trace(path: &Path, subject: &Subject, answers: Answers) -> Verdict {
    let replay = || -> anyhow::Result<(String, String)> {
        let text = text_file::read(path, LARGEST_TRACE, "trace")?;
        let answered = trace_of(&text, subject)?.replay(&LoadOptions::default())?;
        Ok((text, answered))
    };
    let (text, answered) = match replay() {
        Ok(texts) => texts,
        Err(error) => return Verdict::Broken { why: format!("{error:#}") },
    };
    let all = script::differences(&text, &answered);
    let (differences, more) = first(all);
    match (differences.is_empty(), answers) {
        (true, _) => Verdict::Passed,
        (false, Answers::Compare) => Verdict::Failed { differences, more, swap_after: None },
        (false, Answers::Bless) => match replace(path, &script::blessed(&text, &answered)) {
            Ok(()) => Verdict::Blessed { differences, more },
            Err(error) => Verdict::Broken { why: format!("cannot write it: {error}") },
        },
    }
}

/// Runs a trace again with a swap after each access. In recordings, the replies that
/// `init` and `restore` would need are not there.
fn run_swapped(path: &Path, subject: &Subject) -> Verdict {
    if path.extension().is_none_or(|extension| extension != "trace") {
        return Verdict::Passed;
    }
    let replay = || -> anyhow::Result<Option<Swapped>> {
        let text = text_file::read(path, LARGEST_TRACE, "trace")?;
        Ok(trace_of(&text, subject)?.replay_swapped(&LoadOptions::default())?)
    };
    match replay() {
        Ok(None) => Verdict::Passed,
        Ok(Some(Swapped { line, differences })) => {
            let (differences, more) = first(differences);
            Verdict::Failed { differences, more, swap_after: Some(line) }
        }
        Err(error) => Verdict::Broken { why: format!("{error:#}") },
    }
}

/// A trace that runs the tested plugin.
fn trace_of<'a>(text: &'a str, subject: &Subject) -> anyhow::Result<Trace<'a>> {
    let mut trace = Trace::parse(text, subject.beside())?;
    if !subject.is_swapped_in(&mut trace.swaps) {
        subject.take_its_place(&mut trace.profile)?;
    }
    Ok(trace)
}

/// The differences that are shown, and how many more there are.
fn first(all: Vec<Difference>) -> (Vec<Line>, u64) {
    let more = all.len().saturating_sub(MOST_DIFFERENCES) as u64;
    (all.into_iter().take(MOST_DIFFERENCES).map(Line::from).collect(), more)
}

/// Replaces a file in one step: after an interruption the old one is still there.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // The target of a link is replaced, not the link.
    let path = path.canonicalize()?;
    let mut file = WholeFile::beside(&path)?;
    file.write_all(text.as_bytes())?;
    file.permit(fs::metadata(&path)?.permissions())?;
    file.replace()
}

/// Runs a recording: a guest's accesses with their recorded answers.
fn run_recording(path: &Path, subject: &Subject, answers: Answers) -> Verdict {
    let Rerun { differences, more, unmatched } =
        match recording_test::rerun(path, subject, answers == Answers::Bless) {
            Ok(rerun) => rerun,
            Err(failure) => return Verdict::Broken { why: format!("{:#}", failure.error) },
        };
    if unmatched > 0 {
        tracing::warn!(
            "{}: {} no recorded reply and got the last one known",
            path.display(),
            counted(unmatched, "host call has", "host calls have")
        );
    }
    let differences: Vec<Line> = differences
        .into_iter()
        .map(|(line, expected, came)| Line { line, expected, came })
        .collect();
    match (differences.is_empty(), answers) {
        (true, _) => Verdict::Passed,
        (false, Answers::Compare) => Verdict::Failed { differences, more, swap_after: None },
        (false, Answers::Bless) => Verdict::Blessed { differences, more },
    }
}

#[derive(Serialize)]
struct Report {
    passed: usize,
    blessed: usize,
    failed: usize,
    tests: Vec<TestResult>,
}

#[derive(Serialize)]
struct TestResult {
    file: String,
    #[serde(flatten)]
    verdict: Verdict,
}

impl Report {
    fn new(tests: Vec<TestResult>) -> Self {
        let count =
            |is: fn(&Verdict) -> bool| tests.iter().filter(|test| is(&test.verdict)).count();
        Report {
            passed: count(|verdict| matches!(verdict, Verdict::Passed)),
            blessed: count(|verdict| matches!(verdict, Verdict::Blessed { .. })),
            failed: count(|verdict| {
                matches!(verdict, Verdict::Failed { .. } | Verdict::Broken { .. })
            }),
            tests,
        }
    }

    fn for_people(&self) -> String {
        let mut text = String::new();
        for TestResult { file, verdict } in &self.tests {
            let (word, differences, more, why) = match verdict {
                Verdict::Passed => ("ok", &[][..], 0, None),
                Verdict::Blessed { differences, more } => {
                    ("blessed", &differences[..], *more, None)
                }
                Verdict::Failed { differences, more, .. } => {
                    ("FAILED", &differences[..], *more, None)
                }
                Verdict::Broken { why } => ("FAILED", &[][..], 0, Some(why)),
            };
            text += &format!("{file} ... {word}\n");
            if let Verdict::Failed { swap_after: Some(line), .. } = verdict {
                text += &format!("  with a swap after line {line}:\n");
            }
            if let Some(why) = why {
                text += &format!("  {}\n", plain_up_to(why, LONGEST_LINE));
            }
            for Line { line, expected, came } in differences {
                let shown = |text| plain_up_to(text, LONGEST_LINE);
                text += &removed(&format!("  {line:>5} - {}", shown(expected)));
                text += &added(&format!("        + {}", shown(came)));
            }
            if more > 0 {
                text += &format!("        and {more} more\n");
            }
        }
        let blessed = match self.blessed {
            0 => String::new(),
            blessed => format!("{blessed} blessed, "),
        };
        format!("{text}\n{} passed, {blessed}{} failed", self.passed, self.failed)
    }
}

fn removed(line: &str) -> String {
    coloured("31", line)
}

fn added(line: &str) -> String {
    coloured("32", line)
}

fn coloured(colour: &str, line: &str) -> String {
    match stdout_is_coloured() {
        true => format!("\x1b[{colour}m{line}\x1b[0m\n"),
        false => format!("{line}\n"),
    }
}
