//! A recording that is made from another one, and put in its place in one step.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use wasmsr_engine::record::Line;

use crate::exit::Failure;
use crate::whole_file::{WholeFile, behind_links};

/// A recording that is made from another one.
pub(crate) struct NewRecording(WholeFile);

impl NewRecording {
    /// Begins to write beside `path`.
    pub(crate) fn begin(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let why = anyhow!("a recording on standard input cannot be rewritten; name its file");
            return Err(Failure::input(why));
        }
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let path = path.display();
            let why = anyhow!("{path} is not a regular file and cannot be rewritten; name a file");
            return Err(Failure::input(why));
        }
        // The target of a link is replaced, not the link.
        let path = behind_links(path);
        let file = WholeFile::beside(&path).with_context(|| cannot_write(&path));
        file.map(NewRecording).map_err(Failure::input)
    }

    /// Writes the next line.
    pub(crate) fn write(&mut self, line: &Line) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.0, line).map_err(io::Error::from);
        written
            .and_then(|()| self.0.write_all(b"\n"))
            .with_context(|| cannot_write(self.0.place()))
            .map_err(Failure::host)
    }

    /// Puts it at its place, and replaces the old file with its permissions.
    pub(crate) fn replace(self) -> Result<(), Failure> {
        self.put(|file| {
            file.permit(fs::metadata(file.place())?.permissions())?;
            file.replace()
        })
    }

    /// Puts it at its place; an error if something is there.
    pub(crate) fn add(self) -> Result<(), Failure> {
        self.put(WholeFile::add)
    }

    fn put(self, how: impl FnOnce(WholeFile) -> io::Result<()>) -> Result<(), Failure> {
        let place = self.0.place().to_owned();
        how(self.0).with_context(|| cannot_write(&place)).map_err(Failure::host)
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write recording {}", path.display())
}
