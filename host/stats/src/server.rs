//! A small HTTP server on one thread, for readers on this machine.
//!
//! It answers a request and closes the connection. One thread polls all connections and
//! none of them blocks, so a slow reader delays no other. The number of connections,
//! the time of each and the length of a request are bounded.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::ptr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::address::Address;
use crate::request::{Answers, Door, Readers, respond};

/// Most connections of one listener at a time; further ones wait in the kernel's
/// queue. Each listener has this many of its own.
const MOST_CONNECTIONS: usize = 32;

/// How long a connection may take as a whole.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that listens.
pub(crate) struct Listener {
    socket: Socket,
    address: Address,
    readers: Readers,
}

enum Socket {
    Tcp(TcpListener),
    /// The name is removed when it is dropped.
    Unix(UnixListener, Name),
}

/// A socket's name in the file system.
struct Name {
    path: PathBuf,
    /// Device and inode.
    file: Option<(u64, u64)>,
}

impl Listener {
    /// Listens at a socket in the user's own directory. It replaces the socket of an
    /// earlier process with the same number.
    pub(crate) fn own(path: &Path) -> io::Result<Self> {
        let listener = Self::at(&Address::Unix(path.to_owned()))?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Listener { readers: Readers::Owner, ..listener })
    }

    /// Listens where the user says.
    pub(crate) fn at(address: &Address) -> io::Result<Self> {
        let readers = Readers::Others;
        match address {
            Address::Tcp(address) => {
                let socket = TcpListener::bind(address)?;
                socket.set_nonblocking(true)?;
                let address = Address::Tcp(socket.local_addr()?);
                Ok(Listener { socket: Socket::Tcp(socket), address, readers })
            }
            Address::Unix(path) => {
                if is_left_over(path) {
                    fs::remove_file(path)?;
                }
                let socket = UnixListener::bind(path)?;
                socket.set_nonblocking(true)?;
                let socket = Socket::Unix(socket, Name::of(path));
                Ok(Listener { socket, address: address.clone(), readers })
            }
        }
    }

    /// Where it listens; a port of 0 has become a real one.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Tcp(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Tcp(stream))
            }
            Socket::Unix(socket, _) => {
                let (stream, _) = socket.accept()?;
                if self.readers == Readers::Owner && !is_own(&stream) {
                    return Err(ErrorKind::ConnectionAborted.into());
                }
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket, _) => socket.as_fd(),
        }
    }
}

impl Name {
    fn of(path: &Path) -> Self {
        Name { path: path.to_owned(), file: file_at(path) }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another run may have put its socket there since.
        if let Socket::Unix(_, name) = self
            && name.file.is_some()
            && name.file == file_at(&name.path)
        {
            // It may have been removed already.
            let _ = fs::remove_file(&name.path);
        }
    }
}

/// Whether the other end belongs to the user, or to root, who may do everything anyway. The
/// folder keeps others out, unless its owner has changed that.
fn is_own(stream: &UnixStream) -> bool {
    let peer = socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == geteuid() || peer.uid.is_root())
}

fn file_at(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether a socket lies there at which no process listens any more.
fn is_left_over(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// Serves on a thread of its own while it lives.
pub(crate) struct Server {
    /// Closed to end the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `answer` says of a path.
    pub(crate) fn start(
        listeners: Vec<Listener>,
        answer: impl Answers + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let thread = thread::Builder::new()
            .name("statistics".into())
            .spawn(move || serve(&listeners, &stopped, &answer))?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It does not block, so it ends at once.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listeners: &[Listener], stopped: &UnixStream, answer: &dyn Answers) {
    let mut connections: Vec<Connection<'_>> = Vec::new();
    loop {
        let has_room = |listener: &&Listener| {
            let own = connections.iter().filter(|it| ptr::eq(it.listener, *listener));
            own.count() < MOST_CONNECTIONS
        };
        let open: Vec<&Listener> = listeners.iter().filter(has_room).collect();
        let mut polled = vec![PollFd::new(stopped, PollFlags::IN)];
        polled.extend(connections.iter().map(|it| PollFd::new(&it.stream, it.waits_for())));
        polled.extend(open.iter().map(|it| PollFd::new(*it, PollFlags::IN)));
        let next = connections.iter().map(|connection| connection.deadline).min();
        let wait = next.map(|next| next.saturating_duration_since(Instant::now()));
        let wait = wait.and_then(|wait| Timespec::try_from(wait + Duration::from_millis(1)).ok());
        match poll(&mut polled, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No later call would succeed.
            Err(_) => return,
        }
        if polled.first().is_some_and(|stop| !stop.revents().is_empty()) {
            return;
        }
        let ready: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        drop(polled);
        let mut ready = ready.into_iter().skip(1);
        let now = Instant::now();
        connections.retain_mut(|connection| {
            let ready = ready.next().unwrap_or(false);
            now < connection.deadline && (!ready || connection.proceed(answer).is_ok_and(|on| on))
        });
        for (listener, ready) in open.into_iter().zip(ready) {
            if !ready {
                continue;
            }
            match listener.accept() {
                Ok(stream) => connections.push(Connection::new(listener, stream, now)),
                Err(error) if is_passing(&error) => {}
                // The process has no file descriptor left: wait without using the processor.
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted
    )
}

/// A reader, from its request to its answer.
struct Connection<'a> {
    listener: &'a Listener,
    stream: Stream,
    deadline: Instant,
    request: Vec<u8>,
    /// What is still to be written, once the request is whole.
    response: Option<Vec<u8>>,
    written: usize,
}

impl<'a> Connection<'a> {
    fn new(listener: &'a Listener, stream: Stream, now: Instant) -> Self {
        let (deadline, request) = (now + PATIENCE, Vec::new());
        Connection { listener, stream, deadline, request, response: None, written: 0 }
    }

    fn waits_for(&self) -> PollFlags {
        match self.response {
            None => PollFlags::IN,
            Some(_) => PollFlags::OUT,
        }
    }

    /// Reads and writes as far as possible; `false` when the connection is done.
    fn proceed(&mut self, answer: &dyn Answers) -> io::Result<bool> {
        if self.response.is_none() {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.request.extend(buffer.iter().take(count)),
                Err(error) if is_passing(&error) => return Ok(true),
                Err(error) => return Err(error),
            }
            let door = Door { readers: self.listener.readers, over_tcp: self.stream.is_tcp() };
            match respond(&self.request, door, answer) {
                Some(response) => self.response = Some(response),
                None => return Ok(true),
            }
        }
        let rest = self.response.as_deref().and_then(|all| all.get(self.written..));
        match self.stream.write(rest.unwrap_or_default()) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.written += count;
                Ok(self.response.as_ref().is_some_and(|all| self.written < all.len()))
            }
            Err(error) if is_passing(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn is_tcp(&self) -> bool {
        matches!(self, Stream::Tcp(_))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Answer, Request};

    #[test]
    fn silent_readers_delay_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = Listener::own(&path).unwrap();
        let answer = |_: Request<'_>| Some(Answer::ok("text/plain", "x".repeat(1 << 20)));
        let server = Server::start(vec![listener], answer).unwrap();
        let silent: Vec<_> = (0..10).map(|_| UnixStream::connect(&path).unwrap()).collect();
        // Asks, and never reads.
        let mut deaf = UnixStream::connect(&path).unwrap();
        deaf.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut reader = UnixStream::connect(&path).unwrap();
        reader.set_read_timeout(Some(PATIENCE)).unwrap();
        reader.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert!(read.len() > 1 << 20);
        drop(server);
        assert!(!path.exists(), "the socket is removed");
        drop((silent, deaf));
    }

    #[test]
    fn a_listener_whose_readers_say_nothing_takes_no_room_from_another() {
        let directory = tempfile::tempdir().unwrap();
        let [crowded, other] = ["a.sock", "b.sock"].map(|name| directory.path().join(name));
        let listeners = [&crowded, &other].map(|path| Listener::own(path).unwrap());
        let answer = |_: Request<'_>| Some(Answer::ok("text/plain", "yes".to_owned()));
        let _server = Server::start(listeners.into(), answer).unwrap();
        let connect = |path: &PathBuf| {
            let stream = UnixStream::connect(path).unwrap();
            // Less than the silent ones have before they are closed.
            stream.set_read_timeout(Some(PATIENCE / 2)).unwrap();
            stream
        };
        let silent: Vec<_> = (0..2 * MOST_CONNECTIONS).map(|_| connect(&crowded)).collect();
        let asked = |path| {
            let mut reader = connect(path);
            reader.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            reader.read_to_end(&mut Vec::new()).map(|length| length > 0)
        };
        assert!(asked(&other).unwrap());
        assert!(asked(&crowded).is_err(), "there is a limit");
        drop(silent);
    }

    #[test]
    fn what_others_have_put_where_a_socket_was_is_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let first = Listener::own(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Listener::own(&path).unwrap();
        drop(first);
        assert!(path.exists(), "it is the second one's");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_another_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = Listener::own(&path).unwrap();
        assert!(Listener::own(&path).is_err(), "another process listens");
        drop(first);
        fs::write(&path, "a file").unwrap();
        assert!(Listener::own(&path).is_err());
        assert!(path.exists());
    }
}
