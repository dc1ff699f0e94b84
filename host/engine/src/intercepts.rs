//! Which accesses exit right now: what the manifests claim, as far as their
//! plugins have not turned it off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rangemap::RangeInclusiveSet;
use wasmsr_interface::{
    Direction, Directions, ExitClaim, ExitList, ExitsCause, ExitsRefused, Host, MsrIndex, MsrRange,
    Unclaimed,
};

use crate::limits;
use crate::manifest::{Intercept, Manifest, MsrClaim};
use crate::state::SavedIntercepts;

/// What exits of a running VM, as one set of plugins sees it. Changes are rare; the path of
/// an access looks here only where a plugin can change anything.
///
/// While one set takes over from another, what either wants exits.
#[derive(Clone)]
pub(crate) struct Intercepts {
    vm: Arc<Mutex<Sets>>,
    /// The set to which the plugin with this handle belongs. A plugin that goes on in the
    /// next set takes its handle with it.
    set: Arc<AtomicU64>,
}

/// The sets of plugins of one VM, by generation.
struct Sets {
    sets: BTreeMap<u64, Switches>,
    /// What the VMM was told last.
    installed: Exiting,
}

struct Switches {
    at_start: ByPlugin,
    now: ByPlugin,
    claims: BTreeMap<Arc<str>, Vec<MsrClaim>>,
    /// What becomes of all other accesses.
    unclaimed: Unclaimed,
    /// Whether what this set wants exits: not that of shadows, nor of a set that is not in
    /// charge yet.
    exits: bool,
    /// Whether its plugins' calls reach the VMM.
    in_charge: bool,
}

type ByPlugin = BTreeMap<Arc<str>, Switched>;

/// The accesses that one plugin has turned on.
#[derive(Debug, Clone, Default)]
struct Switched {
    reads: RangeInclusiveSet<u32>,
    writes: RangeInclusiveSet<u32>,
}

/// What exits, whatever plugin it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Exiting {
    reads: RangeInclusiveSet<u32>,
    writes: RangeInclusiveSet<u32>,
    unclaimed: Unclaimed,
}

/// Why an intercept stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SwitchError {
    /// Not within the plugin's own claims.
    NotClaimed,
    /// The VMM's filter cannot hold the result.
    DoesNotFit,
}

/// Whether the VMM's filter had to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterChange {
    /// The same accesses exit as before.
    Unchanged,
    /// The VMM has another filter now.
    Changed,
}

/// The set that a VM starts with.
const FIRST: u64 = 1;

impl Intercepts {
    /// As the manifests have it at the start of a boot.
    pub(crate) fn new<'a>(
        plugins: impl Iterator<Item = (&'a Arc<str>, &'a Manifest)> + Clone,
        unclaimed: Unclaimed,
    ) -> Self {
        let first =
            Switches { exits: true, in_charge: true, ..Switches::at_start(plugins, unclaimed) };
        let installed = Exiting::of(&first.exit_list());
        let sets = Sets { sets: BTreeMap::from([(FIRST, first)]), installed };
        Intercepts { vm: Arc::new(Mutex::new(sets)), set: Arc::new(AtomicU64::new(FIRST)) }
    }

    /// A further set of the same VM, of which nothing exits yet.
    pub(crate) fn further_set<'a>(
        &self,
        generation: u64,
        plugins: impl Iterator<Item = (&'a Arc<str>, &'a Manifest)> + Clone,
        unclaimed: Unclaimed,
    ) -> Self {
        self.lock().sets.insert(generation, Switches::at_start(plugins, unclaimed));
        Intercepts { vm: self.vm.clone(), set: Arc::new(AtomicU64::new(generation)) }
    }

    /// A handle that can be moved to another set by itself.
    pub(crate) fn handle(&self) -> Self {
        let set = Arc::new(AtomicU64::new(self.set.load(Relaxed)));
        Intercepts { vm: self.vm.clone(), set }
    }

    /// The plugins with this handle belong to another set from now on.
    pub(crate) fn move_to(&self, generation: u64) {
        self.set.store(generation, Relaxed);
    }

    /// Whether the VMM would let exit what this set wants beside what exits already, and
    /// whether that is anything else than now.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM's filter does not hold both.
    pub(crate) fn check(&self, host: &dyn Host) -> Result<FilterChange, ExitsRefused> {
        let sets = self.lock();
        let own = sets.sets.get(&self.set.load(Relaxed)).map(Switches::exit_list);
        let own = own.unwrap_or_default();
        host.check_exits(&sets.exit_list().union(own.clone()))?;
        Ok(match Exiting::of(&own) == sets.installed {
            true => FilterChange::Unchanged,
            false => FilterChange::Changed,
        })
    }

    /// Lets exit what this set wants, beside what exits already.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM's filter does not hold both; nothing has changed then.
    pub(crate) fn widen(&self, host: &dyn Host) -> Result<FilterChange, ExitsRefused> {
        let mut sets = self.lock();
        sets.let_exit(self.set.load(Relaxed), true);
        let installed = sets.install(host);
        if installed.is_err() {
            sets.let_exit(self.set.load(Relaxed), false);
        }
        installed
    }

    /// This set is in charge from now on.
    pub(crate) fn take_charge(&self) {
        let own = self.set.load(Relaxed);
        for (generation, switches) in &mut self.lock().sets {
            switches.in_charge = *generation == own;
        }
    }

    /// Lets nothing exit but what this set wants.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not take that. What exits for other sets then still
    /// does.
    pub(crate) fn narrow(&self, host: &dyn Host) -> Result<FilterChange, ExitsRefused> {
        let mut sets = self.lock();
        let own = self.set.load(Relaxed);
        for (generation, switches) in &mut sets.sets {
            switches.exits = *generation == own;
        }
        sets.install(host)
    }

    /// Forgets all sets but this one.
    pub(crate) fn forget_others(&self) {
        let own = self.set.load(Relaxed);
        self.lock().sets.retain(|generation, _| *generation == own);
    }

    /// Forgets this set.
    pub(crate) fn forget(&self) {
        self.lock().sets.remove(&self.set.load(Relaxed));
    }

    /// Gives `plugin` in this set what the plugin of that name in set `from` has on, as far
    /// as it claims it. What only its new manifest claims is as that has it. Says whether
    /// something that was on is lost.
    pub(crate) fn carry(&self, plugin: &Arc<str>, from: u64) -> bool {
        let mut sets = self.lock();
        let Some(old) = sets.sets.get(&from) else { return false };
        let before = old.now.get(plugin).cloned().unwrap_or_default();
        let old_claims = old.claims.get(plugin).cloned().unwrap_or_default();
        let Some(own) = sets.sets.get_mut(&self.set.load(Relaxed)) else { return false };
        let claims = own.claims.get(plugin).cloned().unwrap_or_default();
        let mut after = own.at_start.get(plugin).cloned().unwrap_or_default();
        for claim in &old_claims {
            after.turn(claim.range, claim.access, false);
        }
        let mut lost = false;
        for direction in [Direction::Read, Direction::Write] {
            let mut claimed = RangeInclusiveSet::new();
            for claim in claims.iter().filter(|claim| claim.access.contains(direction)) {
                claimed.insert(claim.range.first().0..=claim.range.last().0);
            }
            for msrs in before.of(direction).iter() {
                lost |= claimed.gaps(msrs).next().is_some();
                let kept: Vec<_> = claimed.overlapping(msrs).cloned().collect();
                for kept in kept {
                    let (first, last) =
                        (*kept.start().max(msrs.start()), *kept.end().min(msrs.end()));
                    after.of_mut(direction).insert(first..=last);
                }
            }
        }
        own.now.insert(plugin.clone(), after);
        lost
    }

    /// Everything that is on.
    pub(crate) fn exits(&self) -> ExitList {
        let sets = self.lock();
        sets.sets.get(&self.set.load(Relaxed)).map(Switches::exit_list).unwrap_or_default()
    }

    /// Whether `plugin` has this access turned on.
    pub(crate) fn is_on(&self, plugin: &Arc<str>, index: MsrIndex, direction: Direction) -> bool {
        let sets = self.lock();
        let now = sets.sets.get(&self.set.load(Relaxed)).and_then(|set| set.now.get(plugin));
        now.is_some_and(|switched| switched.of(direction).contains(&index.0))
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
        let mut sets = self.lock();
        let own = self.set.load(Relaxed);
        let Some(set) = sets.sets.get_mut(&own) else { return Err(SwitchError::DoesNotFit) };
        let before = set.now.get(plugin).cloned().unwrap_or_default();
        let mut after = before.clone();
        after.turn(range, directions, on);
        let pieces = after.reads.iter().count() + after.writes.iter().count();
        if pieces > limits::PIECES {
            return Err(SwitchError::DoesNotFit);
        }
        set.now.insert(plugin.clone(), after);
        // The host of a set that is not in charge takes the call as one that changes nothing.
        let exits = match set.in_charge {
            true => sets.exit_list(),
            false => set.exit_list(),
        };
        // Under the lock: two changes reach the VMM in the order in which they
        // were made.
        let cause = ExitsCause::Intercept { plugin: plugin.clone(), range, directions, on };
        match host.set_exits(&exits, &cause) {
            Ok(()) => {
                sets.note_installed(own, &exits);
                Ok(())
            }
            Err(_) => {
                if let Some(set) = sets.sets.get_mut(&own) {
                    set.now.insert(plugin.clone(), before);
                }
                Err(SwitchError::DoesNotFit)
            }
        }
    }

    /// Goes back to what the manifests have at the start of a boot, and has the
    /// VMM follow.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not; everything stays as it was.
    pub(crate) fn set_back(&self, host: &dyn Host) -> Result<(), ExitsRefused> {
        let mut sets = self.lock();
        let own = self.set.load(Relaxed);
        let Some(set) = sets.sets.get_mut(&own) else { return Ok(()) };
        let at_start = set.at_start.clone();
        let before = std::mem::replace(&mut set.now, at_start);
        let exits = sets.exit_list();
        match host.set_exits(&exits, &ExitsCause::Reset) {
            Ok(()) => {
                sets.note_installed(own, &exits);
                Ok(())
            }
            Err(refused) => {
                if let Some(set) = sets.sets.get_mut(&own) {
                    set.now = before;
                }
                Err(refused)
            }
        }
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
        let sets = self.lock();
        let own = sets.sets.get(&self.set.load(Relaxed));
        own.map(|set| set.now.iter().map(saved).collect()).unwrap_or_default()
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
            if let Some(set) = self.lock().sets.get_mut(&self.set.load(Relaxed)) {
                set.now.insert(plugin.as_str().into(), switched);
            }
        }
        Ok(())
    }

    /// Tells the VMM what is on.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM does not take that.
    pub(crate) fn tell(&self, host: &dyn Host, cause: &ExitsCause) -> Result<(), ExitsRefused> {
        let mut sets = self.lock();
        let exits = sets.exit_list();
        host.set_exits(&exits, cause)?;
        sets.installed = Exiting::of(&exits);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Sets> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sets {
    fn let_exit(&mut self, generation: u64, exits: bool) {
        if let Some(set) = self.sets.get_mut(&generation) {
            set.exits = exits;
        }
    }

    /// What any of the sets wants, as far as it may exit.
    fn exit_list(&self) -> ExitList {
        let mut lists = self.sets.values().filter(|set| set.exits).map(Switches::exit_list);
        let first = lists.next().unwrap_or_default();
        lists.fold(first, ExitList::union)
    }

    /// Has the VMM follow, if something else exits than before.
    fn install(&mut self, host: &dyn Host) -> Result<FilterChange, ExitsRefused> {
        let exits = self.exit_list();
        let exiting = Exiting::of(&exits);
        if exiting == self.installed {
            return Ok(FilterChange::Unchanged);
        }
        host.set_exits(&exits, &ExitsCause::Swap)?;
        self.installed = exiting;
        Ok(FilterChange::Changed)
    }

    fn note_installed(&mut self, generation: u64, exits: &ExitList) {
        if self.sets.get(&generation).is_some_and(|set| set.in_charge) {
            self.installed = Exiting::of(exits);
        }
    }
}

impl Exiting {
    fn of(exits: &ExitList) -> Self {
        let mut exiting = Exiting { unclaimed: exits.unclaimed.clone(), ..Exiting::default() };
        for claim in &exits.claims {
            let msrs = claim.range.first().0..=claim.range.last().0;
            if claim.directions.contains(Direction::Read) {
                exiting.reads.insert(msrs.clone());
            }
            if claim.directions.contains(Direction::Write) {
                exiting.writes.insert(msrs);
            }
        }
        exiting
    }
}

impl Switched {
    fn of(&self, direction: Direction) -> &RangeInclusiveSet<u32> {
        match direction {
            Direction::Read => &self.reads,
            Direction::Write => &self.writes,
        }
    }

    fn of_mut(&mut self, direction: Direction) -> &mut RangeInclusiveSet<u32> {
        match direction {
            Direction::Read => &mut self.reads,
            Direction::Write => &mut self.writes,
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
    fn at_start<'a>(
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
        let now = at_start.clone();
        Switches { now, at_start, claims, unclaimed, exits: false, in_charge: false }
    }

    /// The claims, as far as they are on.
    fn exit_list(&self) -> ExitList {
        let mut claims = Vec::new();
        for (plugin, switched) in &self.now {
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
