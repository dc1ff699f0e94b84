//! Which accesses exit right now: what the manifests claim, as far as their
//! plugins have not turned it off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rangemap::RangeInclusiveSet;
use wasmsr_interface::{
    Direction, Directions, ExitClaim, ExitList, ExitsCause, ExitsRefused, Host, MsrIndex, MsrRange,
    Unclaimed,
};

use crate::limits;
use crate::manifest::{Intercept, Manifest, MsrClaim};
use crate::state::SavedIntercepts;

/// The intercepts of one running VM. Changes are rare; the path of an access
/// looks here only where a plugin can change anything.
#[derive(Clone)]
pub(crate) struct Intercepts(Arc<Switches>);

struct Switches {
    at_start: ByPlugin,
    now: Mutex<ByPlugin>,
    claims: BTreeMap<Arc<str>, Vec<MsrClaim>>,
    /// What becomes of all other accesses.
    unclaimed: Unclaimed,
}

type ByPlugin = BTreeMap<Arc<str>, Switched>;

/// The accesses that one plugin has turned on.
#[derive(Debug, Clone, Default)]
struct Switched {
    reads: RangeInclusiveSet<u32>,
    writes: RangeInclusiveSet<u32>,
}

/// Why an intercept stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwitchError {
    /// Not within the plugin's own claims.
    NotClaimed,
    /// The VMM's filter cannot hold the result.
    DoesNotFit,
}

impl Intercepts {
    /// As the manifests have it at the start of a boot.
    pub(crate) fn new<'a>(
        plugins: impl Iterator<Item = (&'a Arc<str>, &'a Manifest)> + Clone,
        unclaimed: Unclaimed,
    ) -> Self {
        let claims = plugins.clone().map(|(name, manifest)| (name.clone(), manifest.msr.clone()));
        let claims = claims.collect();
        let at_start = |manifest: &Manifest| {
            let mut switched = Switched::default();
            for claim in manifest.msr.iter().filter(|claim| claim.intercept == Intercept::On) {
                switched.turn(claim.range, claim.access, true);
            }
            switched
        };
        let plugins = plugins.map(|(name, manifest)| (name.clone(), at_start(manifest)));
        let at_start: ByPlugin = plugins.collect();
        let now = Mutex::new(at_start.clone());
        Intercepts(Arc::new(Switches { at_start, now, claims, unclaimed }))
    }

    /// Everything that is on.
    pub(crate) fn exits(&self) -> ExitList {
        self.0.exit_list(&self.lock())
    }

    /// Whether `plugin` has this access turned on.
    pub(crate) fn is_on(&self, plugin: &Arc<str>, index: MsrIndex, direction: Direction) -> bool {
        self.lock().get(plugin).is_some_and(|switched| switched.of(direction).contains(&index.0))
    }

    /// Turns accesses of `plugin` on or off and has the VMM follow; on a
    /// refusal everything stays as it was.
    pub(crate) fn switch(
        &self,
        plugin: &Arc<str>,
        manifest: &Manifest,
        range: MsrRange,
        directions: Directions,
        on: bool,
        host: &dyn Host,
    ) -> Result<(), SwitchError> {
        if !claims_all(manifest, range, directions) {
            return Err(SwitchError::NotClaimed);
        }
        let mut plugins = self.lock();
        let before = plugins.get(plugin).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.turn(range, directions, on);
        let pieces = after.reads.iter().count() + after.writes.iter().count();
        if pieces > limits::PIECES {
            return Err(SwitchError::DoesNotFit);
        }
        plugins.insert(plugin.clone(), after);
        // Under the lock: two changes reach the VMM in the order in which they
        // were made.
        let cause = ExitsCause::Intercept { plugin: plugin.clone(), range, directions, on };
        host.set_exits(&self.0.exit_list(&plugins), &cause).map_err(|_| {
            plugins.insert(plugin.clone(), before);
            SwitchError::DoesNotFit
        })
    }

    /// Goes back to what the manifests have at the start of a boot, and has the
    /// VMM follow.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not; everything stays as it was.
    pub(crate) fn set_back(&self, host: &dyn Host) -> Result<(), ExitsRefused> {
        let mut plugins = self.lock();
        host.set_exits(&self.0.exit_list(&self.0.at_start), &ExitsCause::Reset)?;
        plugins.clone_from(&self.0.at_start);
        Ok(())
    }

    /// What is on, to be kept.
    pub(crate) fn save(&self) -> Vec<SavedIntercepts> {
        let ranges = |set: &RangeInclusiveSet<u32>| {
            set.iter().map(|msrs| (*msrs.start(), *msrs.end())).collect()
        };
        let saved = |(plugin, switched): (&Arc<str>, &Switched)| SavedIntercepts {
            plugin: plugin.to_string(),
            reads: ranges(&switched.reads),
            writes: ranges(&switched.writes),
        };
        self.lock().iter().map(saved).collect()
    }

    /// Turns on what was on when the state was saved, as far as each plugin may.
    ///
    /// # Errors
    /// The name of a plugin that is not here, or no longer claims it.
    pub(crate) fn restore<'a>(
        &self,
        saved: &[SavedIntercepts],
        manifest: impl Fn(&str) -> Option<&'a Manifest>,
    ) -> Result<(), String> {
        for SavedIntercepts { plugin, reads, writes } in saved {
            let strange = || plugin.clone();
            let manifest = manifest(plugin).ok_or_else(strange)?;
            let mut switched = Switched::default();
            for (ranges, directions) in [(reads, Directions::Read), (writes, Directions::Write)] {
                for &(first, last) in ranges {
                    let range = MsrRange::new(MsrIndex(first), MsrIndex(last));
                    let range = range.filter(|&range| claims_all(manifest, range, directions));
                    switched.turn(range.ok_or_else(strange)?, directions, true);
                }
            }
            self.lock().insert(plugin.as_str().into(), switched);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, ByPlugin> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switched {
    fn of(&self, direction: Direction) -> &RangeInclusiveSet<u32> {
        match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
        }
    }

    fn turn(&mut self, range: MsrRange, directions: Directions, on: bool) {
        let msrs = range.first().0..=range.last().0;
        for (direction, set) in
            [(Direction::Read, &mut self.reads), (Direction::Write, &mut self.writes)]
        {
            match (directions.contains(direction), on) {
                (true, true) => set.insert(msrs.clone()),
                (true, false) => set.remove(msrs.clone()),
                (false, _) => {}
            }
        }
    }
}

impl Switches {
    /// The claims, as far as they are on in `plugins`.
    fn exit_list(&self, plugins: &ByPlugin) -> ExitList {
        let mut claims = Vec::new();
        for (plugin, switched) in plugins {
            let own = self.claims.get(plugin).map(Vec::as_slice).unwrap_or_default();
            for (direction, directions) in
                [(Direction::Read, Directions::Read), (Direction::Write, Directions::Write)]
            {
                for claim in own.iter().filter(|claim| claim.access.contains(direction)) {
                    let msrs = claim.range.first().0..=claim.range.last().0;
                    let on = switched.of(direction).overlapping(&msrs);
                    claims.extend(on.filter_map(|on| {
                        let on = MsrRange::new(MsrIndex(*on.start()), MsrIndex(*on.end()))?;
                        let range = on.intersection(claim.range)?;
                        Some(ExitClaim { plugin: plugin.clone(), range, directions })
                    }));
                }
            }
        }
        ExitList { claims, unclaimed: self.unclaimed.clone() }
    }
}

/// Whether the manifest claims every MSR of `range` in all `directions`.
fn claims_all(manifest: &Manifest, range: MsrRange, directions: Directions) -> bool {
    [Direction::Read, Direction::Write].into_iter().filter(|&d| directions.contains(d)).all(|d| {
        let mut claimed = RangeInclusiveSet::new();
        for claim in manifest.msr.iter().filter(|claim| claim.access.contains(d)) {
            claimed.insert(claim.range.first().0..=claim.range.last().0);
        }
        let msrs = range.first().0..=range.last().0;
        claimed.gaps(&msrs).next().is_none()
    })
}
