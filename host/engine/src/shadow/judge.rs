//! Judges a set of plugins that has just come into charge, from what it does and from what
//! the former plugins, which go on as its shadows, would have done.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rangemap::RangeInclusiveSet;
use wasmsr_interface::{MsrAccess, MsrIndex, MsrRange};

/// Accesses without a shadow before their rate of #GPs counts.
const ENOUGH: u64 = 64;

/// What a set may do while it is on probation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// How many accesses it may answer otherwise than the former set.
    pub differences: u64,
    /// MSRs that it may answer otherwise as often as it likes.
    pub may_differ: Vec<MsrRange>,
    /// The probation ends well after this many accesses.
    pub accesses: Option<u64>,
}

/// Why a set does not stay in charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnCause {
    /// A plugin trapped, overran a limit, or did not start again.
    Failed {
        /// The plugin.
        plugin: Arc<str>,
        /// At which MSR; `None` in a timer.
        index: Option<MsrIndex>,
    },
    /// More accesses than allowed were answered otherwise than by the former set.
    Differs {
        /// The plugin.
        plugin: Arc<str>,
        /// The last of them; `None` for a timer.
        index: Option<MsrIndex>,
        /// How many were allowed.
        allowed: u64,
    },
    /// More accesses raised #GP than under the former set.
    Faults {
        /// The last of them.
        index: MsrIndex,
        /// How many, of those that the former set would have answered.
        faults: u64,
    },
}

impl ReturnCause {
    /// One word for counts: `failed`, `differs` or `faults`.
    pub fn word(&self) -> &'static str {
        match self {
            ReturnCause::Failed { .. } => "failed",
            ReturnCause::Differs { .. } => "differs",
            ReturnCause::Faults { .. } => "faults",
        }
    }
}

impl fmt::Display for ReturnCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |index: &Option<MsrIndex>| match index {
            Some(index) => format!("at {}", index.described()),
            None => "in a timer".to_owned(),
        };
        match self {
            ReturnCause::Failed { plugin, index } => {
                write!(f, "plugin {plugin} failed {}", at(index))
            }
            ReturnCause::Differs { plugin, index, allowed } => write!(
                f,
                "plugin {plugin} answered otherwise than the former version more than {allowed} \
                 times, last {}",
                at(index)
            ),
            ReturnCause::Faults { index, faults } => write!(
                f,
                "{faults} accesses raised #GP that would not have done so under the former set, \
                 last {}",
                index.described()
            ),
        }
    }
}

/// Judges one set while it is on probation. vCPUs tell it what happens.
pub(crate) struct Judge {
    allowed: u64,
    may_differ: RangeInclusiveSet<u32>,
    enough: Option<u64>,
    /// #GPs and accesses under the former set.
    former: (u64, u64),
    accesses: AtomicU64,
    /// Of the accesses that no shadow answered as well: how many, and with #GP.
    alone: AtomicU64,
    alone_faults: AtomicU64,
    differences: AtomicU64,
    /// #GPs where the shadow had none, less those where it alone had one.
    surplus: AtomicU64,
    verdict: OnceLock<ReturnCause>,
    /// Is called when the probation is over, well or not.
    over: Box<dyn Fn() + Send + Sync>,
}

/// What came of an access under the set that is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) access: MsrAccess,
    pub(crate) faults: bool,
    pub(crate) failed: bool,
}

/// What a shadow made of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) differs: bool,
    pub(crate) would_fault: bool,
}

impl Judge {
    pub(crate) fn new(
        terms: &Terms,
        former: (u64, u64),
        over: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let ranges = terms.may_differ.iter();
        Judge {
            allowed: terms.differences,
            may_differ: ranges.map(|range| range.first().0..=range.last().0).collect(),
            enough: terms.accesses,
            former,
            accesses: AtomicU64::new(0),
            alone: AtomicU64::new(0),
            alone_faults: AtomicU64::new(0),
            differences: AtomicU64::new(0),
            surplus: AtomicU64::new(0),
            verdict: OnceLock::new(),
            over: Box::new(over),
        }
    }

    /// Why the set must go; `None` if nothing speaks against it.
    pub(crate) fn verdict(&self) -> Option<&ReturnCause> {
        self.verdict.get()
    }

    /// Accesses that the set has answered.
    pub(crate) fn accesses(&self) -> u64 {
        self.accesses.load(Relaxed)
    }

    /// Whether the set has answered as many accesses as it must.
    pub(crate) fn has_seen_enough(&self) -> bool {
        self.enough.is_some_and(|enough| self.accesses() >= enough)
    }

    /// An access was answered; a shadow may have answered it as well.
    pub(crate) fn answered(
        &self,
        Answered { access, faults, failed }: Answered,
        plugin: Option<&Arc<str>>,
        compared: Option<Compared>,
    ) {
        let accesses = self.accesses.fetch_add(1, Relaxed) + 1;
        if failed {
            let plugin = plugin.cloned().unwrap_or_else(|| "".into());
            self.condemn(ReturnCause::Failed { plugin, index: Some(access.index) });
        }
        let may_differ = self.may_differ.contains(&access.index.0);
        match compared {
            _ if may_differ => {}
            Some(Compared { differs, would_fault }) => {
                if differs {
                    self.differed(plugin, Some(access.index));
                }
                if faults && !would_fault {
                    let faults = self.surplus.fetch_add(1, Relaxed) + 1;
                    if faults > self.allowed {
                        self.condemn(ReturnCause::Faults { index: access.index, faults });
                    }
                }
            }
            None => {
                let alone = self.alone.fetch_add(1, Relaxed) + 1;
                if faults {
                    let faults = self.alone_faults.fetch_add(1, Relaxed) + 1;
                    let (former_faults, former) = self.former;
                    let is_above = u128::from(faults) * u128::from(former.max(1))
                        > u128::from(former_faults) * u128::from(alone);
                    if alone >= ENOUGH && is_above {
                        self.condemn(ReturnCause::Faults { index: access.index, faults });
                    }
                }
            }
        }
        if self.enough == Some(accesses) {
            (self.over)();
        }
    }

    /// A timer did something else than the former plugin's.
    pub(crate) fn differed(&self, plugin: Option<&Arc<str>>, index: Option<MsrIndex>) {
        if self.differences.fetch_add(1, Relaxed) >= self.allowed {
            let plugin = plugin.cloned().unwrap_or_else(|| "".into());
            self.condemn(ReturnCause::Differs { plugin, index, allowed: self.allowed });
        }
    }

    /// A plugin failed in a timer.
    pub(crate) fn failed_in_timer(&self, plugin: &Arc<str>) {
        self.condemn(ReturnCause::Failed { plugin: plugin.clone(), index: None });
    }

    fn condemn(&self, cause: ReturnCause) {
        // The first cause counts.
        if self.verdict.set(cause).is_ok() {
            (self.over)();
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::{MsrOp, Outcome, Reason};

    use super::*;

    const SAME: Option<Compared> = Some(Compared { differs: false, would_fault: false });
    const OTHER: Option<Compared> = Some(Compared { differs: true, would_fault: false });

    fn judge(terms: &Terms, former: (u64, u64)) -> Judge {
        Judge::new(terms, former, || {})
    }

    fn put(judge: &Judge, index: u32, outcome: &Outcome, failed: bool, compared: Option<Compared>) {
        let access = MsrAccess { index: MsrIndex(index), op: MsrOp::Read, reason: Reason::Filter };
        let answered = Answered { access, faults: *outcome == Outcome::Fault, failed };
        judge.answered(answered, Some(&"p".into()), compared);
    }

    #[test]
    fn as_many_differences_as_are_allowed_are_allowed() {
        let judge = judge(&Terms { differences: 2, ..Terms::default() }, (0, 0));
        for _ in 0..2 {
            put(&judge, 1, &Outcome::Value(1), false, OTHER);
            put(&judge, 1, &Outcome::Value(1), false, SAME);
        }
        assert_eq!(judge.verdict(), None);
        put(&judge, 7, &Outcome::Value(1), false, OTHER);
        let cause =
            ReturnCause::Differs { plugin: "p".into(), index: Some(MsrIndex(7)), allowed: 2 };
        assert_eq!(judge.verdict(), Some(&cause));
    }

    #[test]
    fn msrs_that_may_differ_are_not_held_against_the_set() {
        let may_differ = vec![MsrIndex(5).into()];
        let judge = judge(&Terms { may_differ, ..Terms::default() }, (0, 0));
        for _ in 0..100 {
            put(&judge, 5, &Outcome::Value(1), false, OTHER);
            put(&judge, 5, &Outcome::Fault, false, OTHER);
        }
        assert_eq!(judge.verdict(), None);
        put(&judge, 5, &Outcome::Value(0), true, OTHER);
        assert_eq!(judge.verdict().map(ReturnCause::word), Some("failed"));
    }

    #[test]
    fn a_fault_that_the_former_set_would_not_have_raised_counts() {
        let both = Some(Compared { differs: false, would_fault: true });
        let judge = judge(&Terms::default(), (0, 0));
        put(&judge, 1, &Outcome::Fault, false, both);
        assert_eq!(judge.verdict(), None);
        put(&judge, 1, &Outcome::Fault, false, SAME);
        assert_eq!(judge.verdict().map(ReturnCause::word), Some("faults"));
    }

    #[test]
    fn without_a_shadow_the_rate_of_the_former_set_is_the_measure() {
        // One access in ten.
        let judge = judge(&Terms::default(), (10, 100));
        for number in 0..200 {
            let outcome = if number % 10 == 9 { Outcome::Fault } else { Outcome::Value(0) };
            put(&judge, 1, &outcome, false, None);
        }
        assert_eq!(judge.verdict(), None);
        put(&judge, 1, &Outcome::Fault, false, None);
        assert_eq!(judge.verdict().map(ReturnCause::word), Some("faults"));
    }

    #[test]
    fn enough_accesses_end_it_once() {
        let ends = Arc::new(AtomicU64::new(0));
        let counted = ends.clone();
        let terms = Terms { accesses: Some(3), ..Terms::default() };
        let judge = Judge::new(&terms, (0, 0), move || {
            counted.fetch_add(1, Relaxed);
        });
        for _ in 0..9 {
            put(&judge, 1, &Outcome::Value(0), false, SAME);
        }
        assert!(judge.has_seen_enough() && ends.load(Relaxed) == 1);
    }
}
