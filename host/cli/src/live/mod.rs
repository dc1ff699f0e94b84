//! The statistics of a running VM: what `run` offers, and what `stats`, `top` and
//! Prometheus read.

pub(crate) mod address;
pub(crate) mod client;
pub(crate) mod directory;
mod prometheus;
mod server;
pub(crate) mod snapshot;

use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use wasmsr_engine::Metrics;

use crate::exit::Failure;
use address::Address;
use prometheus::Totals;
use server::{Answer, Listener, Readers, Server};
use snapshot::Snapshot;

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
    pub(crate) fn boot(&self, metrics: &Metrics) -> Boot<'_> {
        let mut state = self.run.lock();
        state.boots += 1;
        state.totals.expect(metrics);
        state.current = Some(Current { metrics: metrics.clone(), since: Instant::now() });
        Boot(&self.run)
    }
}

/// A boot that is being watched.
pub(crate) struct Boot<'a>(&'a Run);

impl Drop for Boot<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if let Some(current) = state.current.take() {
            state.totals.keep(&current.metrics);
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
    metrics: Metrics,
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
        let state = self.lock();
        let current = state.current.as_ref();
        let (boots, boot) = (state.boots, current.map(|current| current.since.elapsed()));
        let metrics = current.map(|current| current.metrics.clone());
        // The guest's thread may want to end a boot.
        drop(state);
        Snapshot::of(&self.profile, self.since.elapsed(), boots, boot, metrics.as_ref())
    }

    fn metrics(&self) -> String {
        let mut state = self.lock();
        let State { boots, current, totals } = &mut *state;
        totals.text(self.started, *boots, current.as_ref().map(|current| &current.metrics))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
