//! Finds running VMs, and asks one for its statistics.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::snapshot::Snapshot;
use super::{directory, server};
use crate::exit::Failure;

/// How long an answer may take as a whole: longer than the server has, so that
/// who is slow shows.
const PATIENCE: Duration = Duration::from_secs(server::PATIENCE.as_secs() + 2);

/// Longest answer that is read.
const MOST_ANSWER: usize = 16 << 20;

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
        self.ask_for(PATIENCE)
    }

    fn ask_for(&self, patience: Duration) -> Result<Snapshot, AskError> {
        let socket = self.socket.display();
        let answer = match UnixStream::connect(&self.socket) {
            Ok(stream) => converse(stream, Instant::now() + patience),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => return Err(AskError::Gone),
                _ => Err(error.into()),
            },
        };
        let answer = answer
            .map_err(|error| AskError::Other(error.context(format!("cannot ask {socket}"))))?;
        // A socket that closes without a word is one whose process ends.
        if answer.is_empty() {
            return Err(AskError::Gone);
        }
        understand(&answer).map(Snapshot::harmless).map_err(|error| {
            AskError::Other(error.context(format!("{socket} gives no statistics of a VM")))
        })
    }
}

/// What a server says until it has done, or breaks off.
fn converse(mut stream: UnixStream, deadline: Instant) -> Result<Vec<u8>> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(anyhow!("the answer takes too long; its process may be stopped")),
            false => Ok(Some(left)),
        }
    };
    stream.set_write_timeout(left()?)?;
    match stream.write_all(b"GET /stats HTTP/1.0\r\n\r\n") {
        // It may have said why.
        Err(error) if has_broken_off(&error) => {}
        written => written?,
    }
    let mut answer = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        stream.set_read_timeout(left()?)?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(answer),
            Ok(count) => answer.extend(buffer.iter().take(count)),
            Err(error) if has_broken_off(&error) => return Ok(answer),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() > MOST_ANSWER {
            bail!("the answer is longer than {} MiB", MOST_ANSWER >> 20);
        }
    }
}

fn has_broken_off(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn understand(answer: &[u8]) -> Result<Snapshot> {
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(answer)? else {
        bail!("the answer ends too early");
    };
    if response.code != Some(200) {
        bail!("the answer has status {}", response.code.unwrap_or_default());
    }
    let mut body = answer.get(head..).unwrap_or_default();
    let length = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
    if let Some(length) = length {
        let length = std::str::from_utf8(length.value)?.trim().parse()?;
        body = body.get(..length).context("the answer ends too early")?;
    }
    Ok(serde_json::from_slice(body)?)
}

/// The VMs of this user.
pub(crate) struct Round {
    /// Those that answer.
    pub(crate) running: Vec<(Vm, Snapshot)>,
    /// The processes of those that do not, and why.
    pub(crate) silent: Vec<(u32, anyhow::Error)>,
}

impl Round {
    /// Asks all of them, at the same time: any may keep others waiting.
    pub(crate) fn ask() -> Self {
        let mut round = Round { running: Vec::new(), silent: Vec::new() };
        thread::scope(|scope| {
            let asked: Vec<_> = directory::sockets()
                .into_iter()
                .map(|(process, socket)| {
                    let vm = Vm { socket };
                    let asking = move || vm.ask().map(|snapshot| (vm, snapshot));
                    (process, thread::Builder::new().spawn_scoped(scope, asking))
                })
                .collect();
            for (process, thread) in asked {
                let answer = thread.map(thread::ScopedJoinHandle::join);
                match answer {
                    Ok(Ok(Ok(found))) => round.running.push(found),
                    Ok(Ok(Err(AskError::Gone))) => {}
                    Ok(Ok(Err(AskError::Other(error)))) => round.silent.push((process, error)),
                    Ok(Err(_)) => round.silent.push((process, anyhow!("asking it panicked"))),
                    Err(error) => round.silent.push((process, error.into())),
                }
            }
        });
        round
    }

    fn is_empty(&self) -> bool {
        self.running.is_empty() && self.silent.is_empty()
    }

    /// A line for each.
    fn list(&self) -> String {
        let running = self.running.iter();
        let running = running.map(|(_, vm)| format!("  {}  {}", vm.pid, vm.profile));
        let silent = self.silent.iter();
        let silent = silent.map(|(process, error)| format!("  {process}  no answer: {error:#}"));
        running.chain(silent).collect::<Vec<_>>().join("\n")
    }
}

/// The VM that the user means: by its process, its socket, or its profile; the
/// only one, if nothing is said.
pub(crate) fn find(wanted: Option<&str>) -> Result<(Vm, Snapshot), Failure> {
    if let Some(wanted) = wanted
        && let Some(found) = at_socket(Path::new(wanted)).or_else(|| of_process(wanted))
    {
        return found.map_err(Failure::host);
    }
    let mut round = Round::ask();
    let list = round.list();
    if round.is_empty() {
        let error = "no VM of this user runs; `wasmsr run` starts one";
        return Err(Failure::input(anyhow!(error)));
    }
    let Some(wanted) = wanted else {
        return match (&mut *round.running, &mut *round.silent) {
            ([_], []) => round.running.pop().context("one was found").map_err(Failure::host),
            ([], [_]) => Err(silent(round.silent.pop())),
            _ => Err(Failure::input(anyhow!(
                "several VMs run; name one by its process or profile:\n{list}"
            ))),
        };
    };
    let mut found = round.running;
    found.retain(|(_, snapshot)| is_meant(snapshot, wanted));
    let error = match found.len() {
        1 => return found.pop().context("one was found").map_err(Failure::host),
        0 => format!("no VM that answers is `{wanted}`; there are:\n{list}"),
        _ => format!("several VMs that run are `{wanted}`; name one by its process:\n{list}"),
    };
    Err(Failure::input(anyhow!(error)))
}

fn silent(found: Option<(u32, anyhow::Error)>) -> Failure {
    match found {
        Some((process, error)) => Failure::host(does_not_answer(process, error)),
        None => Failure::host(anyhow!("nobody answers")),
    }
}

fn does_not_answer(process: u32, error: anyhow::Error) -> anyhow::Error {
    error.context(format!("process {process} does not answer"))
}

/// The VM at a socket, if that is one, or may be.
fn at_socket(path: &Path) -> Option<Result<(Vm, Snapshot)>> {
    match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            let vm = Vm { socket: path.to_owned() };
            let snapshot = vm.ask().with_context(|| path.display().to_string());
            Some(snapshot.map(|snapshot| (vm, snapshot)))
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some(Err(anyhow::Error::new(error).context(format!("cannot ask {}", path.display()))))
        }
        _ => None,
    }
}

/// The VM of a process, if that has a socket at which somebody listens.
fn of_process(wanted: &str) -> Option<Result<(Vm, Snapshot)>> {
    let wanted: u32 = wanted.parse().ok()?;
    let sockets = directory::sockets().into_iter().filter(|(process, _)| *process == wanted);
    sockets.map(|(_, socket)| Vm { socket }).find_map(|vm| match vm.ask() {
        Ok(snapshot) => Some(Ok((vm, snapshot))),
        Err(AskError::Gone) => None,
        Err(AskError::Other(error)) => Some(Err(does_not_answer(wanted, error))),
    })
}

fn is_meant(snapshot: &Snapshot, wanted: &str) -> bool {
    let profile = Path::new(&snapshot.profile);
    let names = [profile.file_name(), profile.file_stem(), Some(profile.as_os_str())];
    let same_file = std::path::absolute(wanted).is_ok_and(|wanted| wanted == profile);
    snapshot.pid.to_string() == wanted
        || same_file
        || names.iter().flatten().any(|name| *name == wanted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of asking a server that does this with a connection.
    fn asked(serve: impl FnOnce(UnixStream) + Send) -> Result<Snapshot, AskError> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("x.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::scope(|scope| {
            scope.spawn(move || serve(listener.accept().unwrap().0));
            Vm { socket }.ask_for(Duration::from_millis(500))
        })
    }

    fn answered(answer: &str) -> Result<Snapshot, AskError> {
        asked(|mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    #[track_caller]
    fn check(result: Result<Snapshot, AskError>, reason: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }

    const BODY: &str = r#"{"version": "1", "pid": 7, "profile": "/vms/\u001b[2J.toml"}"#;

    #[test]
    fn an_answer_is_understood_and_made_harmless() {
        let length = BODY.len();
        for head in [String::new(), format!("content-length: {length}\r\n")] {
            let snapshot = answered(&format!("HTTP/1.1 200 OK\r\n{head}\r\n{BODY}")).unwrap();
            assert_eq!((snapshot.pid, &*snapshot.profile), (7, r"/vms/\u{1b}[2J.toml"));
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let length = BODY.len() + 1;
        check(answered("SSH-2.0-OpenSSH\r\n"), "no statistics of a VM");
        check(answered("HTTP/1.1 404 Not Found\r\n\r\n"), "status 404");
        check(answered("HTTP/1.1 200 OK\r\n\r\n{}"), "no statistics of a VM");
        check(answered("HTTP/1.1 200 O"), "ends too early");
        let short = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{BODY}");
        check(answered(&short), "ends too early");
    }

    #[test]
    fn whoever_hangs_up_without_a_word_has_ended() {
        assert!(matches!(asked(drop), Err(AskError::Gone)));
        let nowhere = Vm { socket: "/nonexistent/x.sock".into() };
        assert!(matches!(nowhere.ask(), Err(AskError::Gone)));
    }

    #[test]
    fn a_reset_after_a_whole_answer_takes_nothing_away() {
        let snapshot = asked(|mut stream| {
            // The request is never read, so that closing resets the connection.
            stream.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{BODY}").as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
        });
        assert_eq!(snapshot.unwrap().pid, 7);
    }

    #[test]
    fn who_says_nothing_or_little_at_a_time_is_not_waited_for_for_ever() {
        check(asked(|mut stream| _ = stream.read_to_end(&mut Vec::new())), "takes too long");
        let drip = |mut stream: UnixStream| {
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        };
        check(asked(drip), "takes too long");
    }

    #[test]
    fn an_endless_answer_is_not_kept() {
        let pour = |mut stream: UnixStream| while stream.write_all(&[b'x'; 1 << 16]).is_ok() {};
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("x.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let result = thread::scope(|scope| {
            scope.spawn(move || pour(listener.accept().unwrap().0));
            Vm { socket }.ask_for(Duration::from_secs(60))
        });
        check(result, "longer than 16 MiB");
    }
}
