//! Finds running VMs, and asks one for its statistics.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::directory;
use super::snapshot::Snapshot;
use crate::exit::Failure;

/// How long each step of an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest answer that is read.
const MOST_ANSWER: u64 = 16 << 20;

/// A VM that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Vm {
    socket: PathBuf,
}

/// Why a VM gave no statistics.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("the VM has ended")]
    Gone,
    #[error("{0:#}")]
    Other(anyhow::Error),
}

impl Vm {
    /// Its statistics now.
    pub(crate) fn ask(&self) -> Result<Snapshot, AskError> {
        let mut stream = UnixStream::connect(&self.socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::Gone,
            _ => AskError::Other(
                anyhow::Error::new(error).context(format!("cannot ask {}", self.socket.display())),
            ),
        })?;
        let answer = converse(&mut stream).map_err(|error| {
            AskError::Other(error.context(format!("{} gave no answer", self.socket.display())))
        })?;
        // A socket that closes without a word is one whose process ends.
        if answer.is_empty() {
            return Err(AskError::Gone);
        }
        understand(&answer).map(Snapshot::harmless).map_err(|error| {
            AskError::Other(
                error.context(format!(
                    "{} gave an answer that is not wasmsr's",
                    self.socket.display()
                )),
            )
        })
    }
}

fn converse(stream: &mut UnixStream) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let asked = stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n");
    match asked.and_then(|()| stream.take(MOST_ANSWER).read_to_end(&mut answer)) {
        Err(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(answer),
    }
}

fn understand(answer: &[u8]) -> Result<Snapshot> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer)? else {
        bail!("it ends too early");
    };
    if response.code != Some(200) {
        bail!("it has status {}", response.code.unwrap_or_default());
    }
    serde_json::from_slice(answer.get(head..).unwrap_or_default()).context("no statistics")
}

/// The VMs that run, with their statistics.
pub(crate) fn running() -> Vec<(Vm, Snapshot)> {
    let sockets = directory::sockets().into_iter();
    sockets
        .filter_map(|(_, socket)| {
            let vm = Vm { socket };
            vm.ask().ok().map(|snapshot| (vm, snapshot))
        })
        .collect()
}

/// The VM that the user means: by its process, its socket, or its profile; the
/// only one, if nothing is said.
pub(crate) fn find(wanted: Option<&str>) -> Result<(Vm, Snapshot), Failure> {
    if let Some(path) = wanted.map(Path::new).filter(|path| is_socket(path)) {
        let vm = Vm { socket: path.to_owned() };
        let snapshot = vm.ask().with_context(|| path.display().to_string());
        return snapshot.map(|snapshot| (vm, snapshot)).map_err(Failure::host);
    }
    let running = running();
    let list = list(&running);
    let mut found: Vec<_> = running
        .into_iter()
        .filter(|(_, snapshot)| wanted.is_none_or(|wanted| is_meant(snapshot, wanted)))
        .collect();
    let error = match (found.len(), wanted) {
        (1, _) => return found.pop().context("one was found").map_err(Failure::host),
        (0, _) if list.is_empty() => "no VM of this user runs; `wasmsr run` starts one".to_owned(),
        (0, Some(wanted)) => format!("no VM that runs is `{wanted}`; there are:\n{list}"),
        (_, None) => format!("several VMs run; name one by its process or profile:\n{list}"),
        (_, Some(wanted)) => {
            format!("several VMs that run are `{wanted}`; name one by its process:\n{list}")
        }
    };
    Err(Failure::input(anyhow::Error::msg(error)))
}

fn is_socket(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

fn is_meant(snapshot: &Snapshot, wanted: &str) -> bool {
    let profile = Path::new(&snapshot.profile);
    let names = [profile.file_name(), profile.file_stem(), Some(profile.as_os_str())];
    let same_file = std::path::absolute(wanted).is_ok_and(|wanted| wanted == profile);
    snapshot.pid.to_string() == wanted
        || same_file
        || names.iter().flatten().any(|name| *name == wanted)
}

fn list(running: &[(Vm, Snapshot)]) -> String {
    let line = |(_, snapshot): &(Vm, Snapshot)| format!("  {}  {}", snapshot.pid, snapshot.profile);
    running.iter().map(line).collect::<Vec<_>>().join("\n")
}
