//! What a running VM has in common: the set in charge, and the locks of its vCPUs.

use std::collections::BTreeMap;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cell::VcpuCell;
use super::fate::{Fate, Fates};
use super::set::{Set, Site, Sources};
use super::trial::{Trial, Verdict};
use crate::engine::Engine;
use crate::intercepts::FilterChange;
use crate::profile::{OnFailure, Sha256};
use crate::record::Recorder;

/// The plugins of a running VM. Copies are handles of the same VM.
#[derive(Clone)]
pub struct Live(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) site: Site,
    pub(super) cells: Box<[Arc<VcpuCell>]>,
    /// Raised when vCPUs must look at something before their next access.
    pub(super) attention: AtomicU32,
    /// Held by what takes long: one set is made ready at a time.
    pub(super) operation: Mutex<()>,
    pub(super) state: Mutex<State>,
    /// Something in `state` has changed.
    pub(super) changed: Condvar,
    pub(super) disabled: Mutex<BTreeMap<Arc<str>, OnFailure>>,
    /// The plugins in charge, for those that must not wait for `state`.
    pub(super) names: Mutex<Vec<Arc<str>>>,
    /// Whether what two sets want exits.
    pub(super) two_sets: Arc<AtomicBool>,
}

/// What is in charge. To be locked before the cells of vCPUs.
pub(super) struct State {
    pub(super) set: Set,
    pub(super) sources: Sources,
    /// The generation before, and what counted for it.
    pub(super) past: Option<(u64, Sources)>,
    pub(super) generation: u64,
    /// The highest number of a set.
    pub(super) sets: u64,
    /// The set before, to roll back to.
    pub(super) former: Option<Arc<Engine>>,
    pub(super) trial: Option<Trial>,
    /// How the latest trial ended, and for which generation.
    pub(super) verdict: Option<(u64, Verdict)>,
    pub(super) recorder: Option<Recorder>,
    pub(super) ended: bool,
}

/// A set that took over, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// The number of the set in charge, from 1 in each boot.
    pub generation: u64,
    /// The digest of the set.
    pub digest: Sha256,
    /// What became of the plugins, by name.
    pub plugins: Vec<(Arc<str>, Fate)>,
    /// Plugins that lost a timer: the new version cannot have one.
    pub lost_timers: Vec<Arc<str>>,
    /// Plugins that had accesses turned on which the new version does not claim.
    pub lost_intercepts: Vec<Arc<str>>,
    /// Whether other accesses exit than before.
    pub filter: FilterChange,
    /// How long the locks of all vCPUs were held; zero for a rehearsal.
    pub cut: Duration,
}

impl Swapped {
    /// One that lost nothing and took no time.
    pub(super) fn new(generation: u64, digest: Sha256, fates: &Fates) -> Self {
        Swapped {
            generation,
            digest,
            plugins: fates.iter().map(|(name, fate)| (name.clone(), *fate)).collect(),
            lost_timers: Vec::new(),
            lost_intercepts: Vec::new(),
            filter: FilterChange::Unchanged,
            cut: Duration::ZERO,
        }
    }
}

impl Live {
    /// Whether both are handles of one VM.
    pub fn is(&self, other: &Live) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The number of the set in charge, from 1 in each boot.
    pub fn generation(&self) -> u64 {
        self.state().generation
    }

    /// What counts for the set in charge.
    pub fn sources(&self) -> Sources {
        self.state().sources.clone()
    }

    /// What counts for this generation; `None` if it is neither in charge nor the one before,
    /// which may have been taken back at once.
    pub fn sources_of(&self, generation: u64) -> Option<Sources> {
        let state = self.state();
        let past = state.past.iter().filter(|(of, _)| *of == generation);
        let past = past.map(|(_, sources)| sources.clone()).next();
        if state.generation == generation { Some(state.sources.clone()) } else { past }
    }

    /// A plugin that has failed since its set took charge.
    pub fn failing(&self) -> Option<Arc<str>> {
        let rows = self.sources().metrics.msrs();
        rows.into_iter().find(|row| row.failures > 0).and_then(|row| row.plugin)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn operation(&self) -> MutexGuard<'_, ()> {
        self.0.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `set` is in charge from now on. Returns the one before it.
    pub(super) fn install(&self, state: &mut State, set: Set, sources: Sources) -> Set {
        let names = set.engine.plugins.iter().map(|plugin| plugin.name.clone()).collect();
        *self.0.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let sources = mem::replace(&mut state.sources, sources);
        state.past = Some((state.generation, sources));
        state.generation += 1;
        mem::replace(&mut state.set, set)
    }

    /// A vCPU runs no more.
    pub(super) fn ended(&self) {
        self.state().ended = true;
        self.0.changed.notify_all();
    }
}
