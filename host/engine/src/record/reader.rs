//! Reads a recording, line by line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::line::{FORMAT, Line};

/// Longest line: one access whose plugin read all that its calls may hold.
const LONGEST_LINE: u64 = 16 << 20;

/// The lines of a recording, each with its number, counted from 1.
///
/// Ends after the first error. A last line that was cut off, as when the
/// recorder was killed, is [`RecordingError::CutOff`]: everything before it is
/// whole.
pub struct Lines<R> {
    source: R,
    path: PathBuf,
    number: usize,
    ended: bool,
}

/// Why a recording cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be read.
    #[error("cannot read recording {}: {error}; check the path and its permissions", .path.display())]
    Read {
        /// The recording.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is something else.
    #[error(
        "{} is not a recording: its first line is not a \"boot\" line; `wasmsr run --record FILE` writes one",
        .path.display()
    )]
    NoRecording {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a later wasmsr.
    #[error(
        "recording {} has format {format}, this wasmsr reads {FORMAT}; use one that is as new as the recording",
        .path.display()
    )]
    Format {
        /// The recording.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A line is not as the format has it.
    #[error("recording {}, line {line}: {problem}", .path.display())]
    Line {
        /// The recording.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The last line is not whole.
    #[error(
        "recording {} ends in the middle of line {line}: the recorder was killed; all lines before it are whole",
        .path.display()
    )]
    CutOff {
        /// The recording.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

impl Lines<BufReader<File>> {
    /// Opens a recording.
    ///
    /// # Errors
    /// [`RecordingError::Read`]
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        let file = File::open(path)
            .map_err(|error| RecordingError::Read { path: path.to_owned(), error })?;
        Ok(Lines::new(BufReader::new(file), path))
    }
}

impl<R: BufRead> Lines<R> {
    /// Reads from `source`; `path` is what errors call it.
    pub fn new(source: R, path: &Path) -> Self {
        Lines { source, path: path.to_owned(), number: 0, ended: false }
    }

    fn read(&mut self) -> Result<Option<Line>, RecordingError> {
        let path = || self.path.clone();
        let mut text = Vec::new();
        let read = self.source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut text);
        let read = read.map_err(|error| RecordingError::Read { path: path(), error })?;
        if read == 0 {
            return match self.number {
                0 => Err(RecordingError::NoRecording { path: path() }),
                _ => Ok(None),
            };
        }
        self.number += 1;
        let line = self.number;
        let is_whole = text.ends_with(b"\n");
        let unread = match read_line(&text) {
            Ok(first) if line == 1 && !matches!(first, Line::Boot(_)) => Unread::NoBoot,
            Ok(read) => return Ok(Some(read)),
            Err(unread) => unread,
        };
        let problem = match unread {
            Unread::Format(format) => {
                return Err(RecordingError::Format { path: path(), format });
            }
            _ if line == 1 => return Err(RecordingError::NoRecording { path: path() }),
            Unread::Json(_) if !is_whole && read as u64 == LONGEST_LINE => {
                format!("longer than {LONGEST_LINE} bytes")
            }
            Unread::Json(error) if !is_whole && error.is_eof() => {
                return Err(RecordingError::CutOff { path: path(), line });
            }
            unread => unread.to_string(),
        };
        Err(RecordingError::Line { path: path(), line, problem })
    }
}

/// Why a line cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{}", described(.0))]
    Json(serde_json::Error),
    #[error("unknown kind `{0}`; one of {KINDS} was expected")]
    Kind(String),
    #[error("format {0}")]
    Format(u32),
    #[error("no boot line")]
    NoBoot,
}

impl From<serde_json::Error> for Unread {
    fn from(error: serde_json::Error) -> Self {
        Unread::Json(error)
    }
}

const KINDS: &str = "boot, start, access, wake, swap, dropped, end";

/// What a line is, before all of it is read. To let serde find that out would have it
/// keep every key in memory, at forty times its size, until it has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// A later format may have other keys, but has this one.
#[derive(Deserialize)]
struct BootHead {
    format: u32,
}

fn read_line(text: &[u8]) -> Result<Line, Unread> {
    let Head { kind } = serde_json::from_slice(text)?;
    Ok(match &*kind {
        "boot" => match serde_json::from_slice(text)? {
            BootHead { format: FORMAT } => Line::Boot(serde_json::from_slice(text)?),
            BootHead { format } => return Err(Unread::Format(format)),
        },
        "start" => Line::Start(serde_json::from_slice(text)?),
        "access" => Line::Access(serde_json::from_slice(text)?),
        "wake" => Line::Wake(serde_json::from_slice(text)?),
        "swap" => Line::Swap(serde_json::from_slice(text)?),
        "dropped" => Line::Dropped(serde_json::from_slice(text)?),
        "end" => Line::End(serde_json::from_slice(text)?),
        kind => return Err(Unread::Kind(kind.chars().take(64).collect())),
    })
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(usize, Line), RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        Some(read.transpose()?.map(|line| (self.number, line)))
    }
}

/// serde_json ends its messages with a place in the one line that it saw. What
/// is wrong with a line as a whole is in no column.
fn described(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(&text);
    match error.column() {
        0 => text.to_owned(),
        column => format!("column {column}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::MsrIndex;

    use super::super::hex::Hex;
    use super::*;

    const BOOT: &str = r#"{"kind":"boot","format":1,"version":"0","t":0,"unix_ms":1,"boot":1,"vcpus":1,"plugins":[],"profile":"p","text":""}"#;

    const END: &str = r#"{"kind":"end","t":5,"lines":1,"dropped":0}"#;

    fn read(text: &str) -> Vec<Result<(usize, Line), String>> {
        let lines = Lines::new(text.as_bytes(), Path::new("r.jsonl"));
        lines.map(|line| line.map_err(|error| error.to_string())).collect()
    }

    #[track_caller]
    fn ends_with(text: &str, whole: usize, error: &str) {
        let lines = read(text);
        let (last, before) = lines.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok), "{before:?}");
        assert_eq!(before.len(), whole);
        let said = last.as_ref().unwrap_err();
        assert!(said.contains(error), "no `{error}` in: {said}");
    }

    #[test]
    fn reads_line_after_line() {
        let access = r#"{"kind":"access","t":5,"vcpu":0,"msr":"0x10a","op":"read","reason":"filter","outcome":"value","value":"0xffffffffffffffff","ns":3,"later":[1]}"#;
        let lines = read(&format!("{BOOT}\n{access}\n"));
        let (2, Line::Access(access)) = lines[1].clone().unwrap() else { panic!() };
        assert_eq!((access.msr, access.value), (MsrIndex(0x10a), Some(Hex(u64::MAX))));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        ends_with("", 0, "is not a recording");
        ends_with("{}\n", 0, "is not a recording");
        ends_with("[[plugin]]\n", 0, "is not a recording");
        ends_with(&BOOT.replace("\"format\":1", "\"format\":9"), 0, "has format 9");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"ac"), 1, "in the middle of line 2");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"wait\"}}\n"), 1, "line 2: unknown kind `wait`");
        let bad = r#"{"kind":"access","t":5,"vcpu":0,"msr":266,"op":"read","reason":"filter","outcome":"fault","ns":3}"#;
        ends_with(&format!("{BOOT}\n{bad}\n"), 1, "line 2: column");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"end\"}}\n"), 1, "line 2: column");
        ends_with(&format!("{BOOT}\n[]\n"), 1, "line 2: ");
    }

    #[test]
    fn what_has_no_generation_is_of_the_first() {
        let access = r#"{"kind":"access","t":5,"vcpu":0,"msr":"0x10a","op":"read","reason":"filter","outcome":"fault","ns":3}"#;
        let later = access.replace("\"vcpu\"", "\"generation\":7,\"vcpu\"");
        let swap = r#"{"kind":"swap","t":6,"generation":8,"cause":"rollback","set":"ab","plugins":[],"kept":["p"],"profile":"p","text":""}"#;
        let lines = read(&format!("{BOOT}\n{access}\n{later}\n{swap}\n"));
        let generations = lines.iter().map(|line| match line.clone().unwrap().1 {
            Line::Boot(boot) => boot.generation,
            Line::Access(access) => access.generation,
            Line::Swap(swap) => swap.generation,
            line => panic!("{line:?}"),
        });
        assert_eq!(generations.collect::<Vec<_>>(), [1, 1, 7, 8]);
        let written = |line: &Line| serde_json::to_string(line).unwrap();
        let again: Vec<String> = lines.iter().map(|l| written(&l.as_ref().unwrap().1)).collect();
        assert_eq!(again[0], BOOT, "a recording as before has no more keys than before");
        assert_eq!(again[3], swap);
        ends_with(&format!("{BOOT}\n{}\n", swap.replace("rollback", "whim")), 1, "column");
    }

    #[test]
    fn a_later_format_is_named_whatever_its_keys() {
        let later = r#"{"kind":"boot","format":2,"machines":[{"plugins":{}}]}"#;
        ends_with(&format!("{later}\n"), 0, "has format 2");
        ends_with(&format!("{BOOT}\n{later}\n"), 1, "has format 2");
        // A key of that name in another line is one more that is not known.
        assert!(
            read(&format!("{BOOT}\n{}\n", END.replace("\"t\"", "\"format\":[],\"t\"")))[1].is_ok()
        );
    }

    #[test]
    fn only_what_has_no_end_is_cut_off() {
        for cut in 1..END.len() {
            ends_with(&format!("{BOOT}\n{}", &END[..cut]), 1, "in the middle of line 2");
        }
        assert!(read(&format!("{BOOT}\n{END}")).iter().all(Result::is_ok));
        ends_with(&format!("{BOOT}\n{{\"kind\":\"wait\"}}"), 1, "unknown kind");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"end\",}}"), 1, "line 2: column");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"end\",\"t\":\"5\"}}"), 1, "invalid type");
    }

    #[test]
    fn lines_and_their_nesting_have_a_limit() {
        let long = "x".repeat(usize::try_from(LONGEST_LINE).unwrap());
        ends_with(&format!("{BOOT}\n{{\"kind\":\"{long}\"}}\n"), 1, "longer than 16777216 bytes");
        // What is passed over may be as deep as it likes.
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let deep = END.replace("\"t\"", &format!("\"x\":{open}{close},\"t\""));
        assert!(read(&format!("{BOOT}\n{deep}\n")).iter().all(Result::is_ok));
        ends_with(&format!("{BOOT}\n{{\"kind\":{open}{close}}}\n"), 1, "line 2: column");
        let long_kind = format!("{BOOT}\n{{\"kind\":\"{}\"}}\n", "x".repeat(1 << 20));
        let lines = read(&long_kind);
        assert!(lines[1].as_ref().unwrap_err().len() < 300);
    }
}
