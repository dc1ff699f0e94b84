//! `run --record-ring`: the last accesses in memory, written to the recording's file when
//! something happens for which they are worth one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use wasmsr_engine::record::{Recorder, RecordingEnd, RecordingWriter, Ring, RingCounts, Urgent};
use wasmsr_interface::counted;
use wasmsr_vmm::RunEnd;

use super::open::names_a_file;
use super::record_file::claim;
use super::summary::RecordingSummary;
use crate::exit::Failure;
use crate::terminal::console::say;
use crate::whole_file::{WholeFile, behind_links};

/// The file is written at most once in this time, whatever happens.
const REST: Duration = Duration::from_secs(10);

/// How long the end of a run waits for a file that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// A recording in memory, with the file that it may be written to.
pub(crate) struct RecordRing {
    recording: RecordingWriter,
    ring: Ring,
    requests: Sender<Request>,
    path: PathBuf,
    /// Bytes that files have taken, for those who wait for them.
    progress: Arc<AtomicU64>,
    /// Gives what became of the file once nothing more can be asked for.
    end: Receiver<Written>,
}

/// Asks for the file while the run lasts.
#[derive(Clone)]
pub(crate) struct RingRequests(Sender<Request>);

/// Why the file is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Failure,
    Return,
    Demand,
    End,
}

enum Request {
    Write(Wanted),
    /// The run is over.
    Finish,
}

/// The file is to be written.
struct Wanted {
    why: Why,
    /// Where to say what came of it, if that is asked.
    done: Option<Sender<Result<RingCounts, String>>>,
}

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Written {
    /// What it has, if it was written, and why.
    last: Option<(RingCounts, Option<Why>)>,
    /// Why it could not be written the last time.
    error: Option<String>,
}

impl RecordRing {
    /// Begins to keep the last accesses in `size` bytes. The file is not touched before
    /// it is needed, but refused now if it cannot be replaced then.
    pub(crate) fn begin(path: &Path, size: ByteSize) -> Result<Self, Failure> {
        let cannot = || format!("cannot record to {}", path.display());
        let place = place(path).with_context(cannot).map_err(Failure::input)?;
        let size = usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let (requests, asked) = channel();
        let urgent = requests.clone();
        let ring = RecordingWriter::ring(size, move |what| {
            let why = match what {
                Urgent::Failure => Why::Failure,
                Urgent::Return => Why::Return,
            };
            // Fails once the run is over.
            let _ = urgent.send(Request::Write(Wanted { why, done: None }));
        });
        let (recording, ring) = ring.with_context(cannot).map_err(Failure::host)?;
        let progress = Arc::new(AtomicU64::new(0));
        let (ended, end) = channel();
        let (kept, path) = (ring.clone(), path.to_owned());
        let file = RingFile { ring, place, path: path.clone(), progress: progress.clone() };
        let written = move || drop(ended.send(file.serve(&asked, REST)));
        let thread = thread::Builder::new().name("record-ring".into()).spawn(written);
        let cannot = || format!("cannot record to {}", path.display());
        thread.with_context(cannot).map_err(Failure::host)?;
        Ok(RecordRing { recording, ring: kept, requests, path, progress, end })
    }

    /// The recorder for accesses.
    pub(crate) fn recorder(&self) -> &Recorder {
        self.recording.recorder()
    }

    /// Where the file can be asked for.
    pub(crate) fn requests(&self) -> RingRequests {
        RingRequests(self.requests.clone())
    }

    /// Writes the file if the run ended as no run should, and says on standard error what
    /// became of it.
    pub(crate) fn finish(self, end: Option<&RunEnd>) -> RecordingSummary {
        let RecordRing { recording, ring, requests, path, progress, end: written } = self;
        let RecordingEnd { dropped, .. } = recording.finish();
        // Without a boot there is nothing to write, and an older recording is still there.
        let is_worth_it = end.is_none_or(is_bad) && !ring.is_empty();
        let bad = is_worth_it.then_some(Wanted { why: Why::End, done: None });
        for request in bad.map(Request::Write).into_iter().chain([Request::Finish]) {
            // Fails only if the thread has ended, which waiting for it shows.
            let _ = requests.send(request);
        }
        let written = loop {
            let before = progress.load(Relaxed);
            match written.recv_timeout(PATIENCE) {
                Ok(written) => break written,
                Err(RecvTimeoutError::Timeout) if progress.load(Relaxed) > before => {}
                Err(_) => {
                    let error = Some("its file takes nothing, or too slowly".to_owned());
                    break Written { last: None, error };
                }
            }
        };
        let path = path.display();
        if dropped > 0 {
            tracing::warn!(
                "recording {path}: {} missing, since lines came faster than they could be kept",
                counted(dropped, "access or timer is", "accesses and timers are")
            );
        }
        let counts = match &written.last {
            Some((counts, why)) => {
                let accesses = counted(counts.accesses, "access", "accesses");
                let why = why.map_or(String::new(), |why| format!(": {why}"));
                say(&format!("wasmsr: recorded the last {accesses} to {path}{why}"));
                *counts
            }
            None => {
                if written.error.is_none() && !ring.is_empty() {
                    say(&format!("wasmsr: {path} is not written, since nothing failed"));
                }
                RingCounts::default()
            }
        };
        let lines = counts.accesses + counts.wakes;
        RecordingSummary { path: path.to_string(), lines, dropped, error: written.error }
    }
}

impl RingRequests {
    /// Has the file written, and waits for that as long as a file may need that was
    /// written a moment ago.
    ///
    /// # Errors
    /// Why it is not written.
    pub(crate) fn write(&self) -> anyhow::Result<RingCounts> {
        let (done, written) = channel();
        let request = Request::Write(Wanted { why: Why::Demand, done: Some(done) });
        self.0.send(request).map_err(|_| anyhow!("the run has ended"))?;
        match written.recv_timeout(REST + PATIENCE) {
            Ok(written) => written.map_err(|why| anyhow!(why)),
            Err(_) => Err(anyhow!("its file takes nothing, or too slowly; it may come later")),
        }
    }
}

/// Whether a run ended in a way for which the last accesses are worth a file.
fn is_bad(end: &RunEnd) -> bool {
    matches!(
        end,
        RunEnd::TripleFault(_)
            | RunEnd::HaltedForever(_)
            | RunEnd::InternalError(_)
            | RunEnd::FailEntry { .. }
            | RunEnd::Stopped { .. }
            | RunEnd::HostError(_)
    )
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Failure => "a plugin failed",
            Why::Return => "a set failed its probation",
            Why::Demand => "a user asked for it",
            Why::End => "the run ended badly",
        })
    }
}

/// The place of a file that is to be made or replaced.
fn place(path: &Path) -> anyhow::Result<PathBuf> {
    let real = behind_links(path);
    if !names_a_file(path) || !names_a_file(&real) {
        return Err(anyhow!("the path is that of a folder; name a file"));
    }
    is_replaceable(&real)?;
    WholeFile::beside(&real).context("check the path and its folder")?;
    Ok(real)
}

/// Whether nothing but an older recording is there.
fn is_replaceable(place: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).context("check the path and its folder"),
        Ok(there) if !there.is_file() => {
            Err(anyhow!("it is no regular file, and a ring replaces its file; name one"))
        }
        Ok(_) => {
            let file = File::open(place).context("check the path and its permissions")?;
            claim(&file, &file.metadata()?, place)
        }
    }
}

/// Writes the file, on a thread of its own.
struct RingFile {
    ring: Ring,
    /// Where links lead.
    place: PathBuf,
    /// As the user named it.
    path: PathBuf,
    progress: Arc<AtomicU64>,
}

impl RingFile {
    /// Serves requests until the run is over. Those that come while the file rests are
    /// served together, at the end of the rest or of the run.
    fn serve(self, requests: &Receiver<Request>, rest: Duration) -> Written {
        let mut written = Written::default();
        let mut rests_until: Option<Instant> = None;
        let mut pending: Vec<Wanted> = Vec::new();
        loop {
            let waits = rests_until.map(|until| until.saturating_duration_since(Instant::now()));
            let request = match (pending.is_empty(), waits) {
                (true, _) => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (false, Some(waits)) => requests.recv_timeout(waits),
                (false, None) => Err(RecvTimeoutError::Timeout),
            };
            let is_over = match request {
                Ok(Request::Write(wanted)) => {
                    pending.push(wanted);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => false,
                Ok(Request::Finish) | Err(RecvTimeoutError::Disconnected) => true,
            };
            // A file that could not be written is tried once more at the end.
            if !pending.is_empty() || written.error.is_some() {
                self.write(&mut pending, &mut written);
                rests_until = Some(Instant::now() + rest);
            }
            if is_over {
                return written;
            }
        }
    }

    /// Writes the file for all who asked.
    fn write(&self, pending: &mut Vec<Wanted>, written: &mut Written) {
        let path = self.path.display();
        let why = pending.first().map(|wanted| wanted.why);
        let result = self.replace();
        match &result {
            Ok(counts) => {
                let accesses = counted(counts.accesses, "access is", "accesses are");
                let said = why.map_or(String::new(), |why| format!(": {why}"));
                tracing::info!("the last {accesses} in {path}{said}");
                *written = Written { last: Some((*counts, why)), error: None };
            }
            Err(error) => {
                tracing::error!("cannot write the last accesses to {path}: {error:#}");
                written.error = Some(format!("{error:#}"));
            }
        }
        let said = result.map_err(|error| format!("{error:#}"));
        for done in pending.drain(..).filter_map(|wanted| wanted.done) {
            // Fails if the wait is over.
            let _ = done.send(said.clone());
        }
    }

    fn replace(&self) -> anyhow::Result<RingCounts> {
        if self.ring.is_empty() {
            return Err(anyhow!("nothing has been recorded yet"));
        }
        let mut file = WholeFile::beside(&self.place)?;
        let mut counting = Counting { file: &mut file, progress: &self.progress };
        let counts = self.ring.write_to(&mut counting)?;
        // Something may have been put there during the run.
        is_replaceable(&self.place)?;
        file.replace()?;
        Ok(counts)
    }
}

/// A file that shows that it takes something.
struct Counting<'a> {
    file: &'a mut WholeFile,
    progress: &'a AtomicU64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.progress.fetch_add(taken as u64, Relaxed);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Serves requests for a ring in which nothing is recorded: each is refused, so it
    /// shows when the file was tried.
    fn served(requests: impl FnOnce(Sender<Request>), rest: Duration) -> Written {
        let folder = tempfile::tempdir().unwrap();
        let (_recording, ring) = RecordingWriter::ring(1 << 16, |_| ()).unwrap();
        let place = folder.path().join("r.jsonl");
        let file = RingFile { ring, path: place.clone(), place, progress: Arc::default() };
        let (sender, asked) = channel();
        thread::scope(|scope| {
            let thread = scope.spawn(move || file.serve(&asked, rest));
            requests(sender);
            thread.join().unwrap()
        })
    }

    fn ask(requests: &Sender<Request>) -> Receiver<Result<RingCounts, String>> {
        let (done, written) = channel();
        requests.send(Request::Write(Wanted { why: Why::Demand, done: Some(done) })).unwrap();
        written
    }

    #[test]
    fn without_a_request_nothing_is_tried() {
        assert_eq!(served(drop, REST), Written::default());
    }

    #[test]
    fn a_request_is_served_at_once_and_the_next_after_a_rest() {
        const SHORT: Duration = Duration::from_millis(300);
        served(
            |requests| {
                let began = Instant::now();
                let first = ask(&requests).recv().unwrap();
                assert!(began.elapsed() < SHORT && first.unwrap_err().contains("nothing"));
                let (second, third) = (ask(&requests), ask(&requests));
                assert!(second.recv_timeout(SHORT / 3).is_err(), "it rests");
                assert!(second.recv().unwrap().is_err() && third.recv().unwrap().is_err());
                assert!(began.elapsed() >= SHORT);
            },
            SHORT,
        );
    }

    #[test]
    fn the_end_of_a_run_does_not_wait_for_the_rest() {
        let began = Instant::now();
        served(
            |requests| {
                assert!(ask(&requests).recv().unwrap().is_err());
                let last = ask(&requests);
                drop(requests);
                assert!(last.recv().unwrap().is_err());
            },
            Duration::from_secs(1000),
        );
        assert!(began.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn only_an_older_recording_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert_eq!(place(&file).unwrap(), file);
        fs::write(&file, "important").unwrap();
        assert!(place(&file).unwrap_err().to_string().contains("not a recording"));
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        place(&file).unwrap();
        assert!(place(folder.path()).is_err());
        assert!(place(Path::new("/dev/null")).unwrap_err().to_string().contains("no regular"));
        assert!(place(&folder.path().join("none/file")).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_ring_that_is_asked_for_after_the_run_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        let ring = RecordRing::begin(&path, ByteSize(1 << 16)).map_err(|f| f.error).unwrap();
        let requests = ring.requests();
        assert!(requests.write().unwrap_err().to_string().contains("nothing has been recorded"));
        // One who can still ask does not hold up the end.
        let began = Instant::now();
        let summary = ring.finish(Some(&RunEnd::Quit { at: None }));
        assert!(began.elapsed() < PATIENCE);
        assert_eq!(summary.lines, 0);
        assert!(!path.exists());
        assert!(requests.write().unwrap_err().to_string().contains("the run has ended"));
    }
}
