//! The file of `run --summary`: how a run ended and what was counted, for programs.
//! While the run lasts, `stats --json` gives the same counts.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::geteuid;
use serde::Serialize;
use wasmsr_engine::Report;
use wasmsr_stats::Snapshot;
use wasmsr_vmm::RunEnd;

use super::open::{names_a_file, open_at_once};
use crate::exit::{Code, Failure};
use crate::terminal::plain::write_json;
use crate::whole_file::{WholeFile, behind_links};

/// Where a summary goes.
pub(crate) struct SummaryFile {
    path: PathBuf,
    place: Place,
}

/// What is at the path.
enum Place {
    /// A file, which is new or replaced, where links lead.
    File(PathBuf),
    /// A pipe, a device, or where the command's own output goes. It stays what it is.
    Open(File),
}

/// How long the end of a run waits for a pipe whose reader takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A run that has ended.
#[derive(Serialize)]
pub(crate) struct Summary<'a> {
    exit_code: u8,
    /// The sentence that says how it ended, or the error.
    end: String,
    /// The counts of `stats --json` at the end of the last boot.
    #[serde(flatten)]
    counts: &'a Snapshot,
    reports: Vec<PluginReport<'a>>,
    /// `null` without `--record`.
    recording: Option<&'a RecordingSummary>,
}

/// What a plugin reported after the last boot.
#[derive(Serialize)]
struct PluginReport<'a> {
    plugin: &'a str,
    /// `null` for an instance that serves all vCPUs.
    vcpu: Option<u32>,
    text: &'a str,
}

/// How the recording ended.
#[derive(Serialize)]
pub(crate) struct RecordingSummary {
    pub(crate) path: String,
    pub(crate) lines: u64,
    /// Accesses and timers that are missing.
    pub(crate) dropped: u64,
    pub(crate) error: Option<String>,
}

impl SummaryFile {
    /// Checks before anything is started that the file can be written, and that nothing
    /// is lost if it is.
    pub(crate) fn at(path: &Path) -> Result<Self, Failure> {
        let place = Place::of(path).with_context(|| complaint(path)).map_err(Failure::input)?;
        Ok(SummaryFile { path: path.to_owned(), place })
    }

    /// Writes the summary, and replaces an older one. An error is logged and does not
    /// change the exit code: the run has ended already.
    pub(crate) fn write(self, summary: &Summary<'_>) {
        let SummaryFile { path, place } = self;
        let mut text = Vec::new();
        let written = write_json(&mut text, summary).map_err(anyhow::Error::from);
        text.push(b'\n');
        let written = written.and_then(|()| match place {
            Place::File(path) => replace(&path, &text),
            Place::Open(file) => write_through(file, text),
        });
        if let Err(error) = written {
            tracing::error!("{}: {error:#}", complaint(&path));
        }
    }
}

fn complaint(path: &Path) -> String {
    format!("cannot write the summary {}", path.display())
}

impl Place {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let there = match fs::metadata(path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let real = behind_links(path);
                if !names_a_file(path) || !names_a_file(&real) {
                    return Err(anyhow!("the path is that of a folder; name a file"));
                }
                WholeFile::beside(&real)?;
                return Ok(Place::File(real));
            }
            Err(error) => return Err(error).context("check the path and its folder"),
        };
        if let Some(stream) = own_stream(&there) {
            return Ok(Place::Open(stream));
        }
        if there.is_file() {
            let real = behind_links(path);
            claim(&real)?;
            WholeFile::beside(&real)?;
            return Ok(Place::File(real));
        }
        let kind = there.file_type();
        let what = match () {
            () if kind.is_dir() => "a folder",
            () if kind.is_block_device() => "a block device",
            () if kind.is_socket() => "a socket",
            () => {
                let file = open_at_once(&mut File::options(), path)?;
                rustix::io::ioctl_fionbio(&file, false)?;
                return Ok(Place::Open(file));
            }
        };
        Err(anyhow!("it is {what}; name a file"))
    }
}

/// Standard output or standard error, if that is what is meant.
fn own_stream(meant: &Metadata) -> Option<File> {
    let (output, errors) = (io::stdout(), io::stderr());
    [output.as_fd(), errors.as_fd()].into_iter().find_map(|stream| {
        let file = File::from(stream.try_clone_to_owned().ok()?);
        let about = file.metadata().ok()?;
        ((about.dev(), about.ino()) == (meant.dev(), meant.ino())).then_some(file)
    })
}

/// Makes sure that a file is a summary of this user, or empty.
fn claim(path: &Path) -> anyhow::Result<()> {
    let about = fs::metadata(path)?;
    if about.uid() != geteuid().as_raw() {
        return Err(anyhow!("it belongs to another user (uid {})", about.uid()));
    }
    if about.len() > 0 && !is_summary(path)? {
        return Err(anyhow!("the file exists and is not a summary; name another"));
    }
    Ok(())
}

/// Whether a file begins as summaries do.
fn is_summary(path: &Path) -> io::Result<bool> {
    const LONGEST_HEAD: u64 = 32;
    let mut head = Vec::new();
    File::open(path)?.take(LONGEST_HEAD).read_to_end(&mut head)?;
    let code = head.strip_prefix(b"{\"exit_code\":").unwrap_or_default();
    let digits = code.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Ok(digits > 0 && code.get(digits..).is_some_and(|rest| rest.starts_with(b",\"end\":\"")))
}

/// Puts a summary in the place of an older one, whose permissions it keeps.
fn replace(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let mut file = WholeFile::beside(path)?;
    file.write_all(text)?;
    // Something may have been put there during the run.
    if let Ok(older) = fs::symlink_metadata(path) {
        claim(path)?;
        file.permit(Permissions::from_mode(older.mode() & 0o777))?;
    }
    Ok(file.replace()?)
}

/// Writes to what may take it slowly, or never.
fn write_through(mut file: File, text: Vec<u8>) -> anyhow::Result<()> {
    let (done, written) = channel();
    thread::Builder::new().name("summary".into()).spawn(move || {
        // Fails if the wait is over.
        let _ = done.send(file.write_all(&text));
    })?;
    match written.recv_timeout(PATIENCE) {
        Ok(written) => Ok(written?),
        Err(_) => Err(anyhow!("it takes nothing, or too slowly")),
    }
}

impl<'a> Summary<'a> {
    /// The summary of a run.
    pub(crate) fn of(
        code: Code,
        end: &Result<RunEnd, Failure>,
        counts: &'a Snapshot,
        reports: &'a [Report],
        recording: Option<&'a RecordingSummary>,
    ) -> Self {
        let end = match end {
            Ok(end) => end.to_string(),
            Err(failure) => format!("{:#}", failure.error),
        };
        Summary {
            exit_code: code.number(),
            end,
            counts,
            reports: reports.iter().map(PluginReport::of).collect(),
            recording,
        }
    }
}

impl<'a> PluginReport<'a> {
    fn of(report: &'a Report) -> Self {
        let vcpu = report.vcpu.map(|vcpu| vcpu.0);
        PluginReport { plugin: &report.plugin, vcpu, text: &report.text }
    }
}
