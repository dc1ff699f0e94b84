//! What a VMM offers: the statistics of a run, over its boots.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::address::Address;
use crate::boot::Boot;
use crate::changes::Changes;
use crate::control::{self, Asked, Controls, Operations, Routed, Started, VmInfo, route};
use crate::name::name_of_profile;
use crate::request::{Answer, Readers, Request};
use crate::server::{Listener, Server};
use crate::snapshot::Snapshot;
use crate::sources::Sources;
use crate::totals::Totals;
use crate::{directory, prometheus};

/// Offers a run's statistics while it lives.
pub struct Statistics {
    run: Arc<Run>,
    /// Both end together.
    _server: Option<Server>,
}

/// Why metrics cannot be offered where they were asked for.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The address cannot be listened at.
    #[error("cannot offer metrics at {address}: {error}")]
    Listen {
        /// The address.
        address: Address,
        /// Why not.
        error: io::Error,
    },
    /// Something that is no socket has the name.
    #[error("cannot offer metrics at {address}: {what} is there; remove it, or name another path")]
    Taken {
        /// The address.
        address: Address,
        /// What is there.
        what: &'static str,
    },
    /// The server cannot be started.
    #[error("cannot offer metrics: {0}")]
    Server(io::Error),
}

impl Statistics {
    /// Offers the statistics of a run of `profile` on a socket in the user's own
    /// directory, and at `metrics` too, if that is given. If the socket cannot be
    /// made, a line in the log says so and the run continues.
    ///
    /// # Errors
    /// [`OfferError`], if `metrics` is given.
    pub fn offer(profile: &Path, metrics: Option<&Address>) -> Result<Self, OfferError> {
        let run = Arc::new(Run::new(profile));
        let own = own_listener().inspect_err(|why| {
            tracing::warn!("{why}; `wasmsr top` and `stats` do not find this VM");
        });
        let mut listeners: Vec<Listener> = own.into_iter().collect();
        if let Some(address) = metrics {
            let listener =
                Listener::at(address).map_err(|error| not_offered(address.clone(), error))?;
            tracing::info!("metrics are offered at {}", listener.address());
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Ok(Statistics { run, _server: None });
        }
        let answering = run.clone();
        match Server::start(listeners, move |request: Request<'_>| answering.answer(request)) {
            Ok(server) => Ok(Statistics { run, _server: Some(server) }),
            Err(error) if metrics.is_some() => Err(OfferError::Server(error)),
            Err(error) => {
                tracing::warn!("no statistics are offered: {error}");
                Ok(Statistics { run, _server: None })
            }
        }
    }

    /// From now on the VM's socket serves control too.
    pub fn control(&self, controls: Arc<dyn Controls>) {
        // The first one stays.
        let _ = self.run.controls.set((controls, Arc::default()));
    }

    /// The statistics now, as [`Vm::ask`](crate::Vm::ask) would give them.
    pub fn snapshot(&self) -> Snapshot {
        self.run.snapshot()
    }

    /// Another set is in charge of the boot, or other shadows follow the same one. What
    /// the set before has counted stays, and it must not count any more.
    pub fn swapped(&self, sources: Sources) {
        let mut state = self.run.lock();
        let State { current, totals, .. } = &mut *state;
        if let Some(current) = current {
            current.change(sources, totals);
        }
    }

    /// A boot begins: until the returned value is dropped, the statistics are those
    /// of this boot.
    pub fn boot(&self, sources: Sources) -> RunningBoot<'_> {
        let mut state = self.run.lock();
        state.boots += 1;
        state.totals.expect(&sources);
        state.current = Some(Boot::new(sources));
        RunningBoot(&self.run)
    }
}

pub(crate) fn not_offered(address: Address, error: io::Error) -> OfferError {
    match (error.kind(), &address) {
        (io::ErrorKind::AddrInUse, Address::Unix(path)) => match not_a_socket(path) {
            Some(what) => OfferError::Taken { address, what },
            None => OfferError::Listen { address, error },
        },
        _ => OfferError::Listen { address, error },
    }
}

/// What has a socket's name, if it is none. A link is not followed, as `bind` does not.
fn not_a_socket(path: &Path) -> Option<&'static str> {
    let there = fs::symlink_metadata(path).ok()?.file_type();
    Some(match () {
        () if there.is_socket() => return None,
        () if there.is_symlink() => "a link",
        () if there.is_dir() => "a folder",
        () if there.is_file() => "a file",
        () if there.is_fifo() => "a pipe",
        () => "a device",
    })
}

/// A socket in the user's own directory; an error is a sentence.
fn own_listener() -> Result<Listener, String> {
    let directory = directory::make().map_err(|error| error.to_string())?;
    let socket = directory::socket(&directory, process::id());
    Listener::own(&socket).map_err(|error| format!("cannot make {}: {error}", socket.display()))
}

/// The boot that runs. When it is dropped, its counts join those of the boots that
/// have ended.
#[must_use = "the boot ends when this is dropped"]
pub struct RunningBoot<'a>(&'a Run);

impl Drop for RunningBoot<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(current) = state.current.take() {
            state.totals.keep(&current.sources);
        }
    }
}

const JSON: &str = "application/json";

/// Does what a request asks for.
fn controlled(controls: &Arc<dyn Controls>, operations: &Arc<Operations>, asked: Routed) -> Answer {
    let refused = |status, text: &str| Answer { status, kind: JSON, body: control::error(text) };
    match asked {
        Err((status, text)) => refused(status, &text),
        Ok(Asked::Vm) => Answer::ok(JSON, control::body(&controls.vm())),
        Ok(Asked::Act(action)) => match controls.act(action) {
            Ok(()) => Answer::ok(JSON, "{}".to_owned()),
            Err(refusal) => refused("409 Conflict", &refusal.0),
        },
        Ok(Asked::Begin(job)) => match operations.begin(job, controls) {
            Some(operation) => {
                let body = control::body(&Started { operation });
                Answer { status: "202 Accepted", kind: JSON, body }
            }
            None => refused("429 Too Many Requests", "too many operations wait; try again later"),
        },
        Ok(Asked::Operation(id)) => match operations.get(id) {
            Some(operation) => Answer::ok(JSON, control::body(&operation)),
            None => refused("404 Not Found", "there is no such operation"),
        },
    }
}

/// What is known of a run.
struct Run {
    profile: PathBuf,
    since: Instant,
    /// In seconds since 1970.
    started: f64,
    state: Mutex<State>,
    controls: OnceLock<(Arc<dyn Controls>, Arc<Operations>)>,
}

#[derive(Default)]
struct State {
    boots: u64,
    current: Option<Boot>,
    totals: Totals,
}

impl Run {
    fn new(profile: &Path) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Run {
            profile: std::path::absolute(profile).unwrap_or_else(|_| profile.to_owned()),
            since: Instant::now(),
            started: started.map_or(0.0, |time| time.as_secs_f64()),
            state: Mutex::default(),
            controls: OnceLock::new(),
        }
    }

    /// What lies at a path. Snapshots have paths of files, and control changes the VM, so
    /// only the owner gets these.
    fn answer(&self, request: Request<'_>) -> Option<Answer> {
        let Request { readers, method, path, body } = request;
        let owner = readers == Readers::Owner;
        match path {
            "/metrics" if method == "GET" => {
                Some(Answer::ok(prometheus::CONTENT_TYPE, self.metrics()))
            }
            "/stats" if method == "GET" && owner => {
                Some(Answer::ok(JSON, serde_json::to_string(&self.snapshot()).ok()?))
            }
            path => {
                let path = path.strip_prefix("/v1/").filter(|_| owner)?;
                let (controls, operations) = self.controls.get()?;
                Some(controlled(controls, operations, route(method, path, body)))
            }
        }
    }

    /// The VM as its controls tell of it. They may wait for locks of their own, so this
    /// is asked without that of the state.
    fn info(&self) -> Option<VmInfo> {
        self.controls.get().map(|(controls, _)| controls.vm())
    }

    /// How the set in charge has changed; without controls, as far as it was told.
    fn changes(info: Option<&VmInfo>, current: Option<&Boot>) -> Changes {
        match (info, current) {
            // At its beginning and its end, a boot has counts, but no set to be controlled.
            (Some(info), Some(boot)) if info.generation == 0 => {
                Changes { generation: boot.generation, ..Changes::of(info) }
            }
            (Some(info), Some(_)) => Changes::of(info),
            (Some(info), None) => Changes { generation: 0, ..Changes::of(info) },
            (None, current) => {
                let generation = current.map_or(0, |boot| boot.generation);
                Changes { generation, ..Changes::default() }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let info = self.info();
        let mut state = self.lock();
        let changes = Self::changes(info.as_ref(), state.current.as_ref());
        let mut snapshot = Snapshot {
            name: info.map_or_else(|| name_of_profile(&self.profile), |info| info.name),
            generation: changes.generation,
            swaps: changes.swaps,
            returns: changes.returns,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            profile: self.profile.display().to_string(),
            boots: state.boots,
            uptime: self.since.elapsed().as_secs_f64(),
            ..Snapshot::default()
        };
        if let Some(current) = &mut state.current {
            current.fill(&mut snapshot);
        }
        snapshot
    }

    fn metrics(&self) -> String {
        let info = self.info();
        let mut state = self.lock();
        let State { boots, current, totals } = &mut *state;
        let changes = Self::changes(info.as_ref(), current.as_ref());
        let current = current.as_ref().map(|current| &current.sources);
        let about =
            prometheus::About { started: self.started, boots: *boots, current, changes: &changes };
        prometheus::text(&about, &totals.with(current))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
