//! How long accesses take: a histogram that is fine enough for its tail, and small
//! enough to have one per MSR.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The bounds are 2^n and 1.5 * 2^n nanoseconds, for n from here...
const FIRST_OCTAVE: u32 = 6;

/// ... to here, which is beyond a second.
const LAST_OCTAVE: u32 = 30;

/// The last one has no bound.
const BUCKETS: usize = 2 * (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize + 1;

/// Times of accesses, in buckets whose upper bound is at most one and a half
/// times the lower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Plain", into = "Plain")]
pub struct Latency {
    counts: [u64; BUCKETS],
    /// The sum of all times, in nanoseconds.
    total: u64,
    /// The longest time, in nanoseconds.
    max: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { counts: [0; BUCKETS], total: 0, max: 0 }
    }
}

impl Latency {
    /// How many times there are. A sampled access counts for all that it stands
    /// for.
    pub fn timed(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The sum of all times.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }

    /// The longest time, if there is one.
    pub fn max(&self) -> Option<Duration> {
        (self.timed() > 0).then(|| Duration::from_nanos(self.max))
    }

    /// The mean time, if there is one.
    pub fn mean(&self) -> Option<Duration> {
        self.total.checked_div(self.timed()).map(Duration::from_nanos)
    }

    /// The time within which so many of a thousand accesses were answered, if
    /// there is one: the upper bound of the bucket that it is in.
    pub fn within(&self, permille: u64) -> Option<Duration> {
        let wanted = u128::from(self.timed()) * u128::from(permille);
        let rank = wanted.div_ceil(1000).max(1);
        let mut seen = 0;
        let (bound, _) = self.buckets().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        let nanos = bound.map_or(self.max, |bound| bound.min(self.max));
        Some(Duration::from_nanos(nanos))
    }

    /// Each bucket's upper bound in nanoseconds, which it includes, and how
    /// many times are in it alone. The last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        self.counts.iter().enumerate().map(|(bucket, count)| (bound(bucket), *count))
    }

    /// Adds what another has.
    pub fn add(&mut self, other: &Latency) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours = ours.saturating_add(*theirs);
        }
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    /// What has come since `earlier`. Its longest time is known as well as the
    /// buckets tell.
    #[must_use]
    pub fn since(&self, earlier: &Latency) -> Latency {
        let mut later = Latency::default();
        let counts = self.counts.iter().zip(&earlier.counts);
        for (bucket, (count, (now, before))) in later.counts.iter_mut().zip(counts).enumerate() {
            *count = now.saturating_sub(*before);
            if *count > 0 {
                later.max = bound(bucket).map_or(self.max, |bound| bound.min(self.max));
            }
        }
        later.total = self.total.saturating_sub(earlier.total);
        later
    }
}

/// The bucket of a time in nanoseconds.
fn bucket(nanos: u64) -> usize {
    // Bounds belong to the bucket below them.
    let below = nanos.saturating_sub(1);
    let Some(octave) = below.checked_ilog2() else { return 0 };
    match octave {
        0..FIRST_OCTAVE => 0,
        FIRST_OCTAVE..=LAST_OCTAVE => {
            let upper_half = below >> (octave - 1) & 1;
            let bucket = 2 * (octave - FIRST_OCTAVE) as usize + 1 + usize::from(upper_half == 1);
            bucket.min(BUCKETS - 1)
        }
        _ => BUCKETS - 1,
    }
}

/// A bucket's upper bound in nanoseconds.
fn bound(bucket: usize) -> Option<u64> {
    let octave = FIRST_OCTAVE + u32::try_from(bucket / 2).ok()?;
    let whole = (octave <= LAST_OCTAVE).then_some(1u64 << octave.min(LAST_OCTAVE))?;
    Some(if bucket.is_multiple_of(2) { whole } else { whole + whole / 2 })
}

/// How a [`Latency`] is written down: the buckets that are not empty.
#[derive(Serialize, Deserialize)]
struct Plain {
    total_ns: u64,
    max_ns: u64,
    buckets: Vec<PlainBucket>,
}

#[derive(Serialize, Deserialize)]
struct PlainBucket {
    /// `null` for the last.
    up_to_ns: Option<u64>,
    count: u64,
}

impl From<Latency> for Plain {
    fn from(latency: Latency) -> Self {
        let buckets = latency.buckets().filter(|(_, count)| *count > 0);
        Plain {
            total_ns: latency.total,
            max_ns: latency.max,
            buckets: buckets.map(|(up_to_ns, count)| PlainBucket { up_to_ns, count }).collect(),
        }
    }
}

impl From<Plain> for Latency {
    /// Bounds that are not ours go to the bucket they lie in.
    fn from(plain: Plain) -> Self {
        let mut latency =
            Latency { total: plain.total_ns, max: plain.max_ns, ..Latency::default() };
        for PlainBucket { up_to_ns, count } in plain.buckets {
            if let Some(ours) = latency.counts.get_mut(bucket(up_to_ns.unwrap_or(u64::MAX))) {
                *ours = ours.saturating_add(count);
            }
        }
        latency
    }
}

/// A [`Latency`] that is being measured: one thread writes, any thread reads.
pub(super) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    total: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            total: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Adds a time, which counts for so many.
    pub(super) fn add(&self, taken: Duration, weight: u64) {
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        // What is read between these stores lacks this access's time.
        add(&self.total, nanos.saturating_mul(weight));
        self.max.store(self.max.load(Relaxed).max(nanos), Relaxed);
        if let Some(count) = self.counts.get(bucket(nanos)) {
            add(count, weight);
        }
    }

    pub(super) fn read(&self) -> Latency {
        let mut latency = Latency::default();
        for (plain, count) in latency.counts.iter_mut().zip(&self.counts) {
            *plain = count.load(Relaxed);
        }
        latency.total = self.total.load(Relaxed);
        latency.max = self.max.load(Relaxed);
        latency
    }
}

/// There is one writer, so a plain load and store lose nothing, and cost a
/// tenth of a locked addition.
#[inline]
pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(more), Relaxed);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(nanos: &[u64]) -> Latency {
        let recorder = Histogram::default();
        for &nanos in nanos {
            recorder.add(Duration::from_nanos(nanos), 1);
        }
        recorder.read()
    }

    fn within(latency: &Latency, permille: u64) -> Option<u64> {
        latency.within(permille).and_then(|time| u64::try_from(time.as_nanos()).ok())
    }

    #[test]
    fn bounds_grow_and_reach_beyond_a_second() {
        let bounds: Vec<u64> = (0..BUCKETS).filter_map(bound).collect();
        assert_eq!(bounds[..5], [64, 96, 128, 192, 256]);
        assert!(bounds.is_sorted() && bounds.len() == BUCKETS - 1);
        assert!(*bounds.last().unwrap() > 1_000_000_000);
    }

    proptest! {
        #[test]
        fn a_time_is_in_the_bucket_whose_bounds_are_around_it(nanos in 0u64.., shift in 0u32..64) {
            let nanos = nanos >> shift;
            let bucket = bucket(nanos);
            prop_assert!(bound(bucket).is_none_or(|bound| nanos <= bound));
            let below = bucket.checked_sub(1).and_then(bound);
            prop_assert!(below.is_none_or(|bound| nanos > bound));
        }

        #[test]
        fn what_is_written_down_is_read_again(times in proptest::collection::vec(0u64..1 << 40, 0..50)) {
            let latency = of(&times);
            let text = serde_json::to_string(&latency).unwrap();
            prop_assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), latency);
        }
    }

    #[test]
    fn the_tail_is_seen_and_the_middle_is_not_moved_by_it() {
        let mut times = vec![100; 980];
        times.extend([900_000; 20]);
        let latency = of(&times);
        assert_eq!(within(&latency, 500), Some(128));
        assert_eq!(within(&latency, 980), Some(128));
        assert_eq!(within(&latency, 990), Some(900_000), "no more than the longest");
        assert_eq!(latency.max(), Some(Duration::from_nanos(900_000)));
        assert_eq!(latency.mean(), Some(Duration::from_nanos(18_098)));
    }

    #[test]
    fn nothing_timed_has_no_times() {
        let none = Latency::default();
        assert_eq!((none.mean(), none.max(), none.within(990)), (None, None, None));
    }

    #[test]
    fn times_beyond_all_bounds_are_kept() {
        let latency = of(&[u64::MAX - 1]);
        assert_eq!(within(&latency, 500), Some(u64::MAX - 1));
        assert_eq!(latency.buckets().last(), Some((None, 1)));
    }

    #[test]
    fn later_without_earlier_is_what_came_between() {
        let earlier = of(&[70, 5000]);
        let mut later = earlier.clone();
        later.add(&of(&[100, 100]));
        let between = later.since(&earlier);
        assert_eq!(between.timed(), 2);
        assert_eq!(between.mean(), Some(Duration::from_nanos(100)));
        assert_eq!(within(&between, 1000), Some(128));
    }
}
