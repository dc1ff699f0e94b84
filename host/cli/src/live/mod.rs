//! The statistics of a running VM: what `run` offers, and what `stats`, `top` and
//! Prometheus read.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod directory;
mod own;
mod prometheus;
mod server;
pub(crate) mod snapshot;
mod sources;
mod totals;

use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::exit::Failure;
use address::Address;
use own::Own;
use server::{Answer, Listener, Readers, Server};
use snapshot::{Row, Shadow, Snapshot};
pub(crate) use sources::Sources;
use totals::Totals;

/// MSRs with rows of their own, of each plugin and of the policy.
const OWN_ROWS: usize = 256;

/// Offers a run's statistics while it lives.
pub(crate) struct Live {
    run: Arc<Run>,
    /// Each ends with this.
    _server: Option<Server>,
}

impl Live {
    /// Offers them on a socket in the user's own directory, and where
    /// `--metrics` says. Without the first a run goes on; the second was asked
    /// for.
    pub(crate) fn start(profile: &Path, metrics: Option<&Address>) -> Result<Self, Failure> {
        let run = Arc::new(Run::new(profile));
        let own = directory::make()
            .and_then(|path| Listener::own(&directory::socket(&path, process::id())))
            .inspect_err(|error| {
                tracing::warn!("{error:#}; `wasmsr top` and `stats` do not find this VM");
            });
        let mut listeners: Vec<Listener> = own.into_iter().collect();
        if let Some(address) = metrics {
            let listener = Listener::at(address)
                .with_context(|| format!("cannot offer metrics at {address}"))
                .map_err(Failure::host)?;
            tracing::info!("metrics are offered at {}", listener.address());
            listeners.push(listener);
        }
        if listeners.is_empty() {
            return Ok(Live { run, _server: None });
        }
        let answering = run.clone();
        match Server::start(listeners, move |readers, path| answering.answer(readers, path)) {
            Ok(server) => Ok(Live { run, _server: Some(server) }),
            Err(error) if metrics.is_some() => {
                Err(Failure::host(error.context("cannot offer metrics")))
            }
            Err(error) => {
                tracing::warn!("no statistics are offered: {error:#}");
                Ok(Live { run, _server: None })
            }
        }
    }

    /// What `stats` would be told now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.run.snapshot()
    }

    /// From here on the statistics are those of this boot, until it ends.
    pub(crate) fn boot(&self, sources: Sources) -> Boot<'_> {
        let mut state = self.run.lock();
        state.boots += 1;
        state.totals.expect(&sources);
        let own = Own::new(OWN_ROWS);
        state.current = Some(Current { sources, own, since: Instant::now() });
        Boot(&self.run)
    }
}

/// A boot that is being watched.
pub(crate) struct Boot<'a>(&'a Run);

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(current) = state.current.take() {
            state.totals.keep(&current.sources);
        }
    }
}

/// What is known of a run.
struct Run {
    profile: PathBuf,
    since: Instant,
    /// In seconds since 1970.
    started: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    boots: u64,
    current: Option<Current>,
    totals: Totals,
}

struct Current {
    sources: Sources,
    /// Who has a row: rates need that a row, once given, stays.
    own: Own,
    since: Instant,
}

impl Run {
    fn new(profile: &Path) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Run {
            profile: std::path::absolute(profile).unwrap_or_else(|_| profile.to_owned()),
            since: Instant::now(),
            started: started.map_or(0.0, |time| time.as_secs_f64()),
            state: Mutex::default(),
        }
    }

    /// What lies at a path. Where a VM's files are is the owner's business.
    fn answer(&self, readers: Readers, path: &str) -> Option<Answer> {
        match (path, readers) {
            ("/metrics", _) => {
                Some(Answer { kind: prometheus::CONTENT_TYPE, body: self.metrics() })
            }
            ("/stats", Readers::Owner) => {
                let body = serde_json::to_string(&self.snapshot()).ok()?;
                Some(Answer { kind: "application/json", body })
            }
            _ => None,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut state = self.lock();
        let mut snapshot = Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            profile: self.profile.display().to_string(),
            boots: state.boots,
            uptime: self.since.elapsed().as_secs_f64(),
            ..Snapshot::default()
        };
        if let Some(current) = &mut state.current {
            current.tell(&mut snapshot);
        }
        snapshot
    }

    fn metrics(&self) -> String {
        let mut state = self.lock();
        let State { boots, current, totals } = &mut *state;
        let current = current.as_ref().map(|current| &current.sources);
        let about = prometheus::About { started: self.started, boots: *boots, current };
        prometheus::text(&about, &totals.with(current))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn tell(&mut self, snapshot: &mut Snapshot) {
        let metrics = &self.sources.metrics;
        snapshot.vcpus = metrics.vcpus();
        snapshot.boot_uptime = Some(self.since.elapsed().as_secs_f64());
        for plugin in metrics.plugins() {
            if !snapshot.plugins.iter().any(|known| **known == **plugin) {
                snapshot.plugins.push(plugin.to_string());
            }
        }
        snapshot.msrs = self.own.share(metrics.msrs()).into_iter().map(Row::of).collect();
        snapshot.shadows = self.sources.shadows.counts().into_iter().map(Shadow::of).collect();
    }
}
