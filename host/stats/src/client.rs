//! A running VM, as its socket tells of it and obeys.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::plain::plain_up_to;
use crate::snapshot::Snapshot;
use crate::{server, wishes};

/// How long an answer may take as a whole: longer than the server allows itself, so
/// that a slow server is told from one that does not answer.
const PATIENCE: Duration = Duration::from_secs(server::PATIENCE.as_secs() + 2);

/// Longest answer that is read.
const MOST_ANSWER: usize = 16 << 20;

/// A VM that can be asked.
#[derive(Debug, Clone)]
pub struct Vm {
    socket: PathBuf,
}

/// Why a VM gave no statistics.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It has ended.
    #[error("the VM has ended")]
    Gone,
    /// Its socket cannot be used, or the answer is late or too long.
    #[error("cannot ask {}: {error}", socket.display())]
    Socket {
        /// The socket.
        socket: PathBuf,
        /// What happened there.
        error: io::Error,
    },
    /// The answer is not a VM's.
    #[error("{} gives no statistics of a VM: {why}", socket.display())]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        why: String,
    },
}

/// Why a VM did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It does not answer, or not as a VM does.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It refuses: its own words.
    #[error("{0}")]
    Refused(String),
}

/// Longest refusal that is shown.
const LONGEST_REFUSAL: usize = 8192;

impl Vm {
    /// The VM that listens at a socket.
    pub(crate) fn at(socket: PathBuf) -> Self {
        Vm { socket }
    }

    /// Its statistics now, with texts that are harmless on a terminal.
    ///
    /// # Errors
    /// [`AskError`]
    pub fn ask(&self) -> Result<Snapshot, AskError> {
        self.ask_for(PATIENCE)
    }

    pub(crate) fn ask_for(&self, patience: Duration) -> Result<Snapshot, AskError> {
        let body = self.get("/stats", patience)?;
        let snapshot = serde_json::from_slice(&body).map_err(|error| self.strange(&error));
        snapshot.map(Snapshot::harmless)
    }

    /// Its metrics, as Prometheus reads them. They are not made harmless.
    pub(crate) fn metrics(&self, patience: Duration) -> Result<String, AskError> {
        let text = String::from_utf8(self.get("/metrics", patience)?);
        text.map_err(|error| self.strange(&error))
    }

    fn get(&self, path: &str, patience: Duration) -> Result<Vec<u8>, AskError> {
        let asked = UnixStream::connect(&self.socket).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::Gone,
            _ => self.trouble(error),
        });
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        let answer = converse(asked?, request.as_bytes(), Instant::now() + patience);
        let answer = answer.map_err(|error| self.trouble(error))?;
        // A socket that closes without an answer belongs to a process that ends.
        if answer.is_empty() {
            return Err(AskError::Gone);
        }
        match understand(&answer) {
            Ok(Understood { code: 200, body }) => Ok(body.to_owned()),
            Ok(Understood { code, .. }) => {
                Err(self.strange(&format_args!("the answer has status {code}")))
            }
            Err(why) => Err(self.strange(&why)),
        }
    }

    fn strange(&self, why: &dyn fmt::Display) -> AskError {
        AskError::Answer { socket: self.socket.clone(), why: why.to_string() }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Leaves a wish beside its socket, for when that does not answer: SIGUSR1 has its
    /// process look. Returns the file.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave_wish(&self, line: &str) -> io::Result<PathBuf> {
        wishes::leave(&self.socket, line)
    }

    /// Sends a request to its control, and reads the answer. `body` is JSON.
    ///
    /// # Errors
    /// [`ControlError`]
    pub fn control<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        patience: Duration,
    ) -> Result<T, ControlError> {
        let gone = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
        };
        let stream = UnixStream::connect(&self.socket).map_err(|error| match gone(&error) {
            true => ControlError::Ask(AskError::Gone),
            false => ControlError::Ask(self.trouble(error)),
        })?;
        let request = match body {
            Some(body) => {
                let length = body.len();
                format!("{method} /v1/{path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}")
            }
            None => format!("{method} /v1/{path} HTTP/1.0\r\n\r\n"),
        };
        let answer = converse(stream, request.as_bytes(), Instant::now() + patience);
        let answer = answer.map_err(|error| ControlError::Ask(self.trouble(error)))?;
        if answer.is_empty() {
            return Err(ControlError::Ask(AskError::Gone));
        }
        let strange =
            |why| ControlError::Ask(AskError::Answer { socket: self.socket.clone(), why });
        let Understood { code, body } = understand(&answer).map_err(strange)?;
        if (200..300).contains(&code) {
            return serde_json::from_slice(body).map_err(|error| strange(error.to_string()));
        }
        #[derive(serde::Deserialize)]
        struct Refused {
            error: String,
        }
        match serde_json::from_slice(body) {
            Ok(Refused { error }) => {
                Err(ControlError::Refused(plain_up_to(&error, LONGEST_REFUSAL)))
            }
            Err(_) => Err(strange(format!("the answer has status {code}"))),
        }
    }

    pub(crate) fn trouble(&self, error: io::Error) -> AskError {
        AskError::Socket { socket: self.socket.clone(), error }
    }
}

/// What a server answers to a request until it closes the connection.
fn converse(mut stream: UnixStream, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::Error::other("the answer takes too long; its process may be stopped")),
            false => Ok(Some(left)),
        }
    };
    stream.set_write_timeout(left()?)?;
    match stream.write_all(request) {
        // An answer may have come before the connection was closed.
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
            Err(error) => return Err(error),
        }
        if answer.len() > MOST_ANSWER {
            let why = format!("the answer is longer than {} MiB", MOST_ANSWER >> 20);
            return Err(io::Error::other(why));
        }
    }
}

fn has_broken_off(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// An answer that is whole.
struct Understood<'a> {
    code: u16,
    body: &'a [u8],
}

/// Reads an answer; an error says what is wrong with it.
fn understand(answer: &[u8]) -> Result<Understood<'_>, String> {
    const SHORT: &str = "the answer ends too early";
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(answer).map_err(|error| error.to_string())?;
    let httparse::Status::Complete(head) = parsed else { return Err(SHORT.to_owned()) };
    let mut body = answer.get(head..).unwrap_or_default();
    let length = response.headers.iter().find(|it| it.name.eq_ignore_ascii_case("content-length"));
    if let Some(length) = length {
        let length = std::str::from_utf8(length.value).ok().and_then(|it| it.trim().parse().ok());
        let length: usize = length.ok_or("the answer has a length that is not a number")?;
        body = body.get(..length).ok_or(SHORT)?;
    }
    Ok(Understood { code: response.code.unwrap_or_default(), body })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

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
    fn what_is_wrong_with_an_answer_is_said() {
        let length = BODY.len() + 1;
        check(answered("SSH-2.0-OpenSSH\r\n"), "no statistics of a VM");
        check(answered("HTTP/1.1 404 Not Found\r\n\r\n"), "status 404");
        check(answered("HTTP/1.1 200 OK\r\n\r\n{}"), "no statistics of a VM");
        check(answered("HTTP/1.1 200 O"), "ends too early");
        let short = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{BODY}");
        check(answered(&short), "ends too early");
    }

    #[test]
    fn a_socket_that_closes_without_an_answer_has_ended() {
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
    fn a_silent_or_slow_server_is_not_waited_for_for_ever() {
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
