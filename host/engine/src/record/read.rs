//! Reads a recording, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

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
        "{} is no recording: its first line is no \"boot\" line; `wasmsr run --record FILE` writes one",
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
        "recording {} ends in the middle of line {line}: whoever recorded was killed; all lines before it are whole",
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
        let whole = text.ends_with(b"\n");
        match serde_json::from_slice(&text) {
            Ok(Line::Boot(boot)) if boot.format != FORMAT => {
                Err(RecordingError::Format { path: path(), format: boot.format })
            }
            Ok(first) if line == 1 && !matches!(first, Line::Boot(_)) => {
                Err(RecordingError::NoRecording { path: path() })
            }
            Ok(read) => Ok(Some(read)),
            Err(_) if line == 1 => Err(RecordingError::NoRecording { path: path() }),
            Err(_) if !whole && read as u64 == LONGEST_LINE => {
                let problem = format!("longer than {LONGEST_LINE} bytes");
                Err(RecordingError::Line { path: path(), line, problem })
            }
            Err(_) if !whole => Err(RecordingError::CutOff { path: path(), line }),
            Err(error) => {
                let problem = format!("column {}: {}", error.column(), plain(&error));
                Err(RecordingError::Line { path: path(), line, problem })
            }
        }
    }
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

/// serde_json ends its messages with a place in the one line that it saw.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::hex::Hex;
    use super::*;
    use crate::msr::MsrIndex;

    const BOOT: &str = r#"{"kind":"boot","format":1,"version":"0","t":0,"unix_ms":1,"boot":1,"vcpus":1,"plugins":[],"profile":"p","text":""}"#;

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
        let access = r#"{"kind":"access","t":5,"vcpu":0,"msr":"0x10a","op":"read","reason":"filter","outcome":"handled","value":"0xffffffffffffffff","ns":3,"later":[1]}"#;
        let lines = read(&format!("{BOOT}\n{access}\n"));
        let (2, Line::Access(access)) = lines[1].clone().unwrap() else { panic!() };
        assert_eq!((access.msr, access.value), (MsrIndex(0x10a), Some(Hex(u64::MAX))));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        ends_with("", 0, "is no recording");
        ends_with("{}\n", 0, "is no recording");
        ends_with("[[plugin]]\n", 0, "is no recording");
        ends_with(&BOOT.replace("\"format\":1", "\"format\":9"), 0, "has format 9");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"ac"), 1, "in the middle of line 2");
        ends_with(&format!("{BOOT}\n{{\"kind\":\"wait\"}}\n"), 1, "line 2: column");
        let bad = r#"{"kind":"access","t":5,"vcpu":0,"msr":266,"op":"read","reason":"filter","outcome":"fault","ns":3}"#;
        ends_with(&format!("{BOOT}\n{bad}\n"), 1, "line 2");
    }
}
