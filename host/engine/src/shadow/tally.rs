//! Counts what a shadow does, and logs the first differences.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::KernelVersion;

use super::beside::Changes;
use super::counts::ShadowCounts;
use super::difference::{Effects, Occasion, Subject};
use super::plan::ShadowPlan;

/// Differences that are kept as examples, of different subjects.
const MOST_EXAMPLES: usize = 16;

/// The counts of all shadows of a running VM, readable from any thread.
#[derive(Clone, Default)]
pub struct ShadowTallies(pub(crate) Vec<Arc<Tally>>);

impl ShadowTallies {
    /// The counts so far, in the order of the profile.
    pub fn counts(&self) -> Vec<ShadowCounts> {
        self.0.iter().map(|tally| tally.counts()).collect()
    }

    /// Those that are not among `others`.
    #[must_use]
    pub fn without(&self, others: &ShadowTallies) -> ShadowTallies {
        let is_there = |tally: &&Arc<Tally>| others.0.iter().any(|other| Arc::ptr_eq(other, tally));
        ShadowTallies(self.0.iter().filter(|tally| !is_there(tally)).cloned().collect())
    }
}

/// What a shadow has shown, over all vCPUs.
pub(crate) struct Tally {
    kind: Kind,
    sums: Mutex<Sums>,
}

/// What the shadow is.
enum Kind {
    /// A plugin of this name.
    Plugin(Arc<str>),
    Kernel,
}

/// What a kernel shadow is called in counts.
const KERNEL: &str = "kernel";

pub(super) struct Sums {
    pub(super) counts: ShadowCounts,
    /// What `counts` has an example of.
    told: BTreeSet<Subject>,
}

impl Tally {
    pub(crate) fn new(plan: &ShadowPlan) -> Self {
        let about = &plan.plugin.manifest.plugin;
        let counts = ShadowCounts {
            plugin: about.name.clone(),
            version: about.version.to_string(),
            of: plan.of.clone(),
            ..ShadowCounts::default()
        };
        Self::with(Kind::Plugin(plan.plugin.name.clone()), counts)
    }

    /// Of the kernel shadow of this plugin.
    pub(crate) fn kernel(of: Arc<str>, kernel: Option<KernelVersion>) -> Self {
        let version = kernel.map_or_else(|| "-".to_owned(), |kernel| kernel.to_string());
        let plugin = KERNEL.to_owned();
        Self::with(Kind::Kernel, ShadowCounts { plugin, version, of, ..ShadowCounts::default() })
    }

    fn with(kind: Kind, counts: ShadowCounts) -> Self {
        Tally { kind, sums: Mutex::new(Sums { counts, told: BTreeSet::new() }) }
    }

    /// The shadow did not start.
    pub(crate) fn absent(&self, error: &dyn fmt::Display) {
        let counts = &mut self.sums().counts;
        counts.failures += 1;
        counts.examples.push(format!("it did not start: {error}"));
    }

    /// Counts an occasion at which the shadow would have changed something else.
    pub(crate) fn changed(&self, occasion: Occasion, changes: Option<Changes>) {
        let Some(Changes { in_charge, shadow }) = changes else { return };
        let mut sums = self.sums();
        sums.counts.effects += 1;
        let both = in_charge.iter().zip(&shadow);
        let same = both.take_while(|(one, other)| one == other).count();
        let in_charge = Effects { all: &in_charge, same };
        self.tell(sums, occasion, &in_charge, &Effects { all: &shadow, same });
    }

    pub(super) fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a difference, once for each subject.
    pub(super) fn tell(
        &self,
        mut sums: MutexGuard<'_, Sums>,
        occasion: Occasion,
        in_charge: &dyn fmt::Display,
        shadow: &dyn fmt::Display,
    ) {
        let room = sums.counts.examples.len() < MOST_EXAMPLES;
        if !room || !sums.told.insert(occasion.subject()) {
            return;
        }
        let example = match &self.kind {
            Kind::Plugin(name) => {
                let example = format!("{occasion}: {in_charge}; the shadow: {shadow}");
                tracing::warn!("plugin {name} differs: {example}");
                example
            }
            Kind::Kernel => {
                let example = format!("{occasion}: {in_charge}; KVM: {shadow}");
                tracing::warn!("KVM differs from plugin {}: {example}", sums.counts.of);
                example
            }
        };
        sums.counts.examples.push(example);
    }

    fn counts(&self) -> ShadowCounts {
        self.sums().counts.clone()
    }
}
