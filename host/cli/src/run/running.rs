//! The run as its control sees it: the set in charge, what it comes from, and what has
//! become of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use wasmsr_engine::live::{Fate, Live, SwapError, Swapped, Verdict};
use wasmsr_engine::profile::{OnFailure, Sha256};
use wasmsr_engine::record::Recorder;
use wasmsr_engine::{LoadOptions, Terms};
use wasmsr_stats::{Sources, Statistics};

use super::changes::changes;
use super::record_ring::RingRequests;
use super::recorded::Recorded;
use super::source::Source;
use crate::loaded::Loaded;

/// How long a swap waits for a guest that is between two boots.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon a swap is tried again that has met a reset.
const AGAIN: Duration = Duration::from_millis(5);

/// What a run is doing, shared by its threads.
pub(super) struct Running {
    options: LoadOptions,
    statistics: Arc<Statistics>,
    name: String,
    now: Mutex<Now>,
    changed: Condvar,
    recording: Mutex<Option<Recorded>>,
    /// What answers in place of plugins, in every boot of the run.
    disabled: Mutex<BTreeMap<String, OnFailure>>,
}

struct Now {
    source: Source,
    set: Arc<Loaded>,
    /// `None` between two boots.
    live: Option<Live>,
    former: Option<(Source, Arc<Loaded>)>,
    /// Digests of sets that were taken back: no boot takes them.
    rejected: Vec<Sha256>,
    history: History,
    /// When the probation has passed; `None` if only accesses count.
    deadline: Option<Instant>,
    boots: u64,
    booted: Option<Instant>,
    is_over: bool,
}

/// What has become of sets in this run.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    pub(super) swaps: u64,
    /// By [`ReturnCause::word`](wasmsr_engine::ReturnCause::word).
    pub(super) returns: BTreeMap<&'static str, u64>,
    pub(super) last: Option<Last>,
}

/// The last change of the set in charge.
#[derive(Debug, Clone)]
pub(super) struct Last {
    /// `swap`, `return` or `rollback`.
    pub(super) what: &'static str,
    pub(super) generation: u64,
    pub(super) cause: Option<String>,
    pub(super) when_unix_ms: u64,
}

/// What a swap is to do.
pub(super) struct Order {
    /// The new set's profile; `None`: the run's own, as it is on disk now.
    pub(super) profile: Option<PathBuf>,
    /// Files for plugins of the set in charge.
    pub(super) plugins: Vec<(String, PathBuf)>,
    pub(super) rehearse: bool,
    pub(super) expect: Option<Sha256>,
    pub(super) terms: Option<Terms>,
    pub(super) time: Option<Duration>,
}

/// What came of it.
pub(super) struct Done {
    pub(super) swapped: Swapped,
    pub(super) changes: Vec<String>,
    pub(super) prepared: Duration,
}

/// How many of the sets that were taken back are remembered.
const MOST_REJECTED: usize = 64;

impl Running {
    pub(super) fn new(
        source: Source,
        set: Arc<Loaded>,
        options: LoadOptions,
        statistics: Arc<Statistics>,
        recording: Option<Recorded>,
    ) -> Self {
        let now = Now {
            source,
            set,
            live: None,
            former: None,
            rejected: Vec::new(),
            history: History::default(),
            deadline: None,
            boots: 0,
            booted: None,
            is_over: false,
        };
        let name = now.set.profile.name.clone();
        Running {
            options,
            statistics,
            name,
            now: Mutex::new(now),
            changed: Condvar::new(),
            recording: Mutex::new(recording),
            disabled: Mutex::default(),
        }
    }

    /// The VM's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The profile of the set in charge.
    pub(super) fn profile(&self) -> PathBuf {
        let path = self.now().source.profile().to_owned();
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Boots so far.
    pub(super) fn boots(&self) -> u64 {
        self.now().boots
    }

    /// How long the boot has lasted; `None` between two.
    pub(super) fn boot_uptime(&self) -> Option<Duration> {
        self.now().booted.map(|since| since.elapsed())
    }

    /// The set in charge.
    pub(super) fn set(&self) -> Arc<Loaded> {
        self.now().set.clone()
    }

    /// The set that is on disk now, for the next boot.
    pub(super) fn load_and_check(&self) -> anyhow::Result<Loaded> {
        let source = self.now().source.clone();
        source.load_and_check(&self.options)
    }

    pub(super) fn history(&self) -> History {
        self.now().history.clone()
    }

    /// How long the probation still lasts; `None` if only accesses count.
    pub(super) fn probation_left(&self) -> Option<Duration> {
        let deadline = self.now().deadline?;
        Some(deadline.saturating_duration_since(Instant::now()))
    }

    /// The plugins of the present boot.
    pub(super) fn live(&self) -> Option<Live> {
        self.now().live.clone()
    }

    /// Whether a set was taken back in this run.
    pub(super) fn is_rejected(&self, set: &Loaded) -> bool {
        self.now().rejected.contains(&set.engine.digest())
    }

    /// The recorder of the run, if it is recorded at present.
    pub(super) fn recorder(&self) -> Option<Recorder> {
        self.recording().as_ref().map(|recording| recording.recorder().clone())
    }

    /// Ends the recording, if there is one, as far as the run is concerned.
    pub(super) fn take_recording(&self) -> Option<Recorded> {
        self.recording().take()
    }

    /// Where the file of a ring can be asked for.
    pub(super) fn ring(&self) -> Option<RingRequests> {
        self.recording().as_ref()?.requests()
    }

    /// Records with `new` in place of what recorded before, which is finished.
    pub(super) fn record(&self, new: Option<Recorded>) -> anyhow::Result<()> {
        let recorder = new.as_ref().map(Recorded::recorder).cloned();
        if let Some(live) = self.live() {
            live.record(recorder.as_ref())?;
        }
        let before = std::mem::replace(&mut *self.recording(), new);
        if let Some(before) = before {
            before.finish(None);
        }
        Ok(())
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recorded>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `answer` given in place of a plugin in this boot and all that follow, until it is
    /// enabled, or another version of it is swapped in.
    pub(super) fn disable(&self, plugin: &str, answer: Option<OnFailure>) -> anyhow::Result<()> {
        match (self.live(), answer) {
            (Some(live), Some(answer)) => live.disable(plugin, answer)?,
            (Some(live), None) => live.enable(plugin)?,
            (None, _) => {}
        }
        let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => disabled.insert(plugin.to_owned(), answer),
            None => disabled.remove(plugin),
        };
        Ok(())
    }

    /// A boot with this set begins.
    pub(super) fn booted(&self, set: Arc<Loaded>, live: Live) {
        let disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (plugin, answer) in disabled {
            match live.disable(&plugin, answer) {
                Ok(()) => tracing::warn!("plugin {plugin} is still disabled: {answer}"),
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let mut now = self.now();
        now.set = set;
        now.live = Some(live);
        now.former = None;
        now.boots += 1;
        now.booted = Some(Instant::now());
        drop(now);
        self.changed.notify_all();
    }

    /// The boot is over.
    pub(super) fn ended(&self) {
        let mut now = self.now();
        now.live = None;
        now.booted = None;
    }

    /// No boot follows.
    pub(super) fn over(&self) {
        self.now().is_over = true;
        self.changed.notify_all();
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plugins of the boot that runs, or of the next one.
    fn wait_for_live(&self) -> anyhow::Result<Live> {
        let deadline = Instant::now() + PATIENCE;
        let mut now = self.now();
        loop {
            if let Some(live) = &now.live {
                return Ok(live.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if now.is_over || left.is_zero() {
                return Err(anyhow!("the guest does not run; swap again when it has booted"));
            }
            let waited = self.changed.wait_timeout(now, left);
            now = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Swaps, or rehearses that.
    pub(super) fn swap(
        self: &Arc<Self>,
        order: &Order,
        told: impl FnOnce(&Verdict) + Send + 'static,
    ) -> anyhow::Result<Done> {
        let live = self.wait_for_live()?;
        let (source, set) = {
            let now = self.now();
            (now.source.clone(), now.set.clone())
        };
        is_expected(order, &set)?;
        let began = Instant::now();
        let source = order.profile.as_deref().map_or(source, Source::of);
        let source = source.with_plugins(&order.plugins, &set)?;
        let next = Arc::new(source.load(&self.options)?);
        let (old, new) = (&set.profile.vm, &next.profile.vm);
        if (old.memory, old.vcpus) != (new.memory, new.vcpus) {
            return Err(anyhow!(
                "the new profile has other memory or vCPUs, which a running VM keeps; reset the \
                 guest to boot with it"
            ));
        }
        let changes = changes(&set, &next);
        let mut live = live;
        let swapped = loop {
            let swapped = match order.rehearse {
                true => live.rehearse(&next.engine),
                false => live.swap(&next.engine, order.terms.as_ref()),
            };
            match swapped {
                // The guest was reset meanwhile: its next boot takes the set.
                Err(SwapError::Ended) if Instant::now() < began + PATIENCE => {
                    thread::sleep(AGAIN);
                    live = self.wait_for_live()?;
                    is_expected(order, &self.set())?;
                }
                swapped => break swapped?,
            }
        };
        if order.rehearse {
            return Ok(Done { swapped, changes, prepared: began.elapsed() });
        }
        let prepared = began.elapsed().saturating_sub(swapped.cut);
        let sources = live.sources_of(swapped.generation).unwrap_or_else(|| live.sources());
        self.statistics.swapped(Sources::of_live(&sources));
        {
            let mut now = self.now();
            let before = std::mem::replace(&mut now.source, source);
            // A guest that was reset meanwhile has booted with the set before.
            if now.live.as_ref().is_some_and(|present| present.is(&live)) {
                now.former = Some((before, set));
                now.set = next;
            }
            now.history.swaps += 1;
            now.history.last = Some(Last::of("swap", swapped.generation, None));
        }
        tracing::info!("generation {} is in charge, set {}", swapped.generation, swapped.digest);
        for line in changes.iter().take(super::changes::MOST) {
            tracing::info!("{line}");
        }
        let changed = swapped.plugins.iter().filter(|(_, fate)| *fate != Fate::Kept);
        let mut disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        changed.for_each(|(plugin, _)| _ = disabled.remove(&**plugin));
        drop(disabled);
        if order.terms.is_some() {
            self.supervise(live, &swapped, order.time, told)?;
        }
        Ok(Done { swapped, changes, prepared })
    }

    /// Waits for the end of a probation, on a thread of its own.
    fn supervise(
        self: &Arc<Self>,
        live: Live,
        swapped: &Swapped,
        time: Option<Duration>,
        told: impl FnOnce(&Verdict) + Send + 'static,
    ) -> anyhow::Result<()> {
        let running = self.clone();
        let (generation, digest) = (swapped.generation, swapped.digest);
        {
            let deadline = time.and_then(|time| Instant::now().checked_add(time));
            self.now().deadline = deadline;
        }
        let supervise = move || {
            let verdict = live.supervise(generation, time);
            match &verdict {
                Verdict::Returned(cause) => {
                    running.returned(&live, digest, cause.word(), cause.to_string());
                }
                Verdict::RolledBack | Verdict::Kept | Verdict::Ended => {}
            }
            if verdict != Verdict::Ended {
                running.statistics.swapped(Sources::of_live(&live.sources()));
            }
            told(&verdict);
        };
        thread::Builder::new().name("probation".into()).spawn(supervise)?;
        Ok(())
    }

    /// The set before is in charge again.
    fn returned(&self, live: &Live, digest: Sha256, word: &'static str, cause: String) {
        let mut now = self.now();
        now.take_back(digest);
        *now.history.returns.entry(word).or_default() += 1;
        now.history.last = Some(Last::of("return", live.generation(), Some(cause)));
    }

    /// Goes back to the set before.
    pub(super) fn roll_back(&self) -> anyhow::Result<Done> {
        let live = self.wait_for_live()?;
        let began = Instant::now();
        let set = self.set();
        let swapped = live.roll_back()?;
        let prepared = began.elapsed().saturating_sub(swapped.cut);
        self.statistics.swapped(Sources::of_live(&live.sources()));
        let mut now = self.now();
        now.take_back(set.engine.digest());
        now.history.last = Some(Last::of("rollback", swapped.generation, None));
        let changes = changes(&set, &now.set);
        drop(now);
        tracing::info!("rolled back: generation {}, set {}", swapped.generation, swapped.digest);
        Ok(Done { swapped, changes, prepared })
    }
}

/// Refuses if the set in charge is not the one that is expected.
fn is_expected(order: &Order, set: &Loaded) -> anyhow::Result<()> {
    let digest = set.engine.digest();
    match order.expect.filter(|expected| *expected != digest) {
        Some(expected) => Err(anyhow!("the set in charge is {digest}, not {expected}")),
        None => Ok(()),
    }
}

impl Now {
    /// The former set is in charge, and the one with this digest is not to come back by a
    /// boot.
    fn take_back(&mut self, digest: Sha256) {
        if let Some((source, set)) = self.former.take() {
            self.source = source;
            self.set = set;
        }
        if self.rejected.len() >= MOST_REJECTED {
            self.rejected.remove(0);
        }
        self.rejected.push(digest);
    }
}

impl Last {
    fn of(what: &'static str, generation: u64, cause: Option<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let when_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Last { what, generation, cause, when_unix_ms }
    }
}
