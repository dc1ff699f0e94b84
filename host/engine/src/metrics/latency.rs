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
    buckets: [Bucket; BUCKETS],
    /// The sum of all times, in nanoseconds.
    total: u64,
    /// The longest time, in nanoseconds.
    max: u64,
}

/// Times that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    /// Accesses; a sampled one is as many as it stands for.
    count: u64,
    /// Times that were measured.
    samples: u64,
    /// The sum of the accesses' times, in nanoseconds.
    total: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { buckets: [Bucket::default(); BUCKETS], total: 0, max: 0 }
    }
}

impl Latency {
    /// How many times there are. A sampled access counts for all that it stands
    /// for.
    pub fn timed(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.count))
    }

    /// The sum of all times.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.total)
    }

    /// The longest time, if there is one.
    pub fn max(&self) -> Option<Duration> {
        (self.timed() > 0).then(|| Duration::from_nanos(self.max))
    }

    /// The mean time, if there is one. The slowest twentieth of the measured times, and
    /// what lies beyond [`within`](Self::within)`(990)`, count as if they were as slow as
    /// the slowest of the others: a single time that met a preemption stands for many
    /// accesses that did not.
    pub fn mean(&self) -> Option<Duration> {
        /// One of so many measured times may be out of the ordinary.
        const OUTLIERS: u64 = 20;
        let samples = self.buckets.iter().map(|bucket| bucket.samples).fold(0, u64::saturating_add);
        let ordinary = samples - samples / OUTLIERS;
        let slowest = self
            .bucket_of_rank(ordinary.into(), |bucket| bucket.samples)?
            .min(self.bucket_of_rank(self.rank(990), |bucket| bucket.count)?);
        let cap = self.mean_of_bucket(slowest);
        let nanos = self.buckets.iter().enumerate().map(|(number, bucket)| {
            let time = if number > slowest { cap } else { self.mean_of_bucket(number) };
            time * u128::from(bucket.count)
        });
        let mean = nanos.sum::<u128>().checked_div(self.timed().into())?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The time within which so many of a thousand accesses were answered, if
    /// there is one: the upper bound of the bucket that it is in.
    pub fn within(&self, permille: u64) -> Option<Duration> {
        let number = self.bucket_of_rank(self.rank(permille), |bucket| bucket.count)?;
        Some(Duration::from_nanos(self.longest_in_bucket(number)))
    }

    /// Counted from 1.
    fn rank(&self, permille: u64) -> u128 {
        (u128::from(self.timed()) * u128::from(permille)).div_ceil(1000)
    }

    /// The first bucket with which as many are seen as `rank`.
    fn bucket_of_rank(&self, rank: u128, many: impl Fn(&Bucket) -> u64) -> Option<usize> {
        let mut seen = 0;
        self.buckets.iter().position(|bucket| {
            seen += u128::from(many(bucket));
            seen >= rank.max(1)
        })
    }

    /// In nanoseconds.
    fn mean_of_bucket(&self, number: usize) -> u128 {
        let bucket = self.buckets.get(number).copied().unwrap_or_default();
        let longest = self.longest_in_bucket(number);
        // A reader may find the time of an access without its count.
        bucket.total.checked_div(bucket.count).unwrap_or(longest).min(longest).into()
    }

    /// In nanoseconds, as far as it is known.
    fn longest_in_bucket(&self, number: usize) -> u64 {
        bound(number).map_or(self.max, |bound| bound.min(self.max))
    }

    /// Each bucket's upper bound in nanoseconds, which it includes, and how
    /// many times are in it alone. The last has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(number, bucket)| (bound(number), bucket.count))
    }

    /// Adds what another has.
    pub fn add(&mut self, other: &Latency) {
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            ours.count = ours.count.saturating_add(theirs.count);
            ours.samples = ours.samples.saturating_add(theirs.samples);
            ours.total = ours.total.saturating_add(theirs.total);
        }
        self.total = self.total.saturating_add(other.total);
        self.max = self.max.max(other.max);
    }

    /// What has come since `earlier`. Its longest time is known as well as the
    /// buckets tell.
    #[must_use]
    pub fn since(&self, earlier: &Latency) -> Latency {
        let mut later = Latency::default();
        let both = self.buckets.iter().zip(&earlier.buckets);
        for (number, (bucket, (now, before))) in later.buckets.iter_mut().zip(both).enumerate() {
            bucket.count = now.count.saturating_sub(before.count);
            bucket.samples = now.samples.saturating_sub(before.samples);
            bucket.total = now.total.saturating_sub(before.total);
            if bucket.count > 0 {
                later.max = self.longest_in_bucket(number);
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
    /// Older versions have neither this nor the next.
    #[serde(default)]
    samples: Option<u64>,
    #[serde(default)]
    total_ns: Option<u64>,
}

impl From<Latency> for Plain {
    fn from(latency: Latency) -> Self {
        let buckets = latency.buckets.iter().enumerate().filter(|(_, bucket)| bucket.count > 0);
        let plain = |(number, bucket): (usize, &Bucket)| PlainBucket {
            up_to_ns: bound(number),
            count: bucket.count,
            samples: Some(bucket.samples),
            total_ns: Some(bucket.total),
        };
        Plain {
            total_ns: latency.total,
            max_ns: latency.max,
            buckets: buckets.map(plain).collect(),
        }
    }
}

impl From<Plain> for Latency {
    /// Bounds that are not ours go to the bucket they lie in.
    fn from(plain: Plain) -> Self {
        let mut latency =
            Latency { total: plain.total_ns, max: plain.max_ns, ..Latency::default() };
        for PlainBucket { up_to_ns, count, samples, total_ns } in plain.buckets {
            let longest = up_to_ns.unwrap_or(u64::MAX).min(plain.max_ns);
            if let Some(ours) = latency.buckets.get_mut(bucket(up_to_ns.unwrap_or(u64::MAX))) {
                ours.count = ours.count.saturating_add(count);
                ours.samples = ours.samples.saturating_add(samples.unwrap_or(count));
                let total = total_ns.unwrap_or(longest.saturating_mul(count));
                ours.total = ours.total.saturating_add(total);
            }
        }
        latency
    }
}

/// A [`Latency`] that is being measured: one thread writes, any thread reads.
pub(super) struct Histogram {
    buckets: [MeasuredBucket; BUCKETS],
    total: AtomicU64,
    max: AtomicU64,
}

/// A [`Bucket`].
#[derive(Default)]
struct MeasuredBucket {
    count: AtomicU64,
    samples: AtomicU64,
    total: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: std::array::from_fn(|_| MeasuredBucket::default()),
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
        if let Some(bucket) = self.buckets.get(bucket(nanos)) {
            add(&bucket.total, nanos.saturating_mul(weight));
            add(&bucket.samples, 1);
            add(&bucket.count, weight);
        }
    }

    pub(super) fn read(&self) -> Latency {
        let mut latency = Latency::default();
        for (plain, bucket) in latency.buckets.iter_mut().zip(&self.buckets) {
            plain.count = bucket.count.load(Relaxed);
            plain.samples = bucket.samples.load(Relaxed);
            plain.total = bucket.total.load(Relaxed);
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
        fn no_mean_is_above_p99(
            times in proptest::collection::vec((1u64..1 << 40, 0u32..40, prop_oneof![Just(1u64), Just(64)]), 1..400)
        ) {
            let times: Vec<_> =
                times.into_iter().map(|(nanos, shift, weight)| (nanos >> shift, weight)).collect();
            let latency = weighted(&times);
            let later = latency.since(&weighted(&times[..times.len() / 2]));
            for latency in [latency, later] {
                prop_assert!(latency.mean() <= latency.within(990), "{latency:?}");
            }
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
        assert_eq!(latency.mean(), Some(Duration::from_nanos(100)));
        assert_eq!(latency.total(), Duration::from_nanos(980 * 100 + 20 * 900_000));
    }

    /// Times with the number of accesses each stands for.
    fn weighted(times: &[(u64, u64)]) -> Latency {
        let recorder = Histogram::default();
        for &(nanos, weight) in times {
            recorder.add(Duration::from_nanos(nanos), weight);
        }
        recorder.read()
    }

    #[test]
    fn a_sample_that_met_a_preemption_does_not_move_the_mean() {
        const PREEMPTED: u64 = 7_400_000;
        let mut all_timed = vec![(300, 1); 63];
        all_timed.push((PREEMPTED, 1));
        assert_eq!(weighted(&all_timed).mean(), Some(Duration::from_nanos(300)));
        // The first one that stands for 64 stands for half of all accesses.
        let mut sampled = vec![(300, 1); 64];
        sampled.push((PREEMPTED, 64));
        assert_eq!(weighted(&sampled).mean(), Some(Duration::from_nanos(300)));
        sampled.extend([(300, 64); 10]);
        assert_eq!(weighted(&sampled).mean(), Some(Duration::from_nanos(300)));
        assert_eq!(weighted(&sampled).max(), Some(Duration::from_nanos(PREEMPTED)));
    }

    #[test]
    fn a_mean_of_few_or_of_two_kinds_is_the_mean() {
        assert_eq!(of(&[100, 300]).mean(), Some(Duration::from_nanos(200)));
        let mut times = vec![100; 50];
        times.extend([10_000; 50]);
        assert_eq!(of(&times).mean(), Some(Duration::from_nanos(5050)));
    }

    #[test]
    fn slow_first_accesses_do_not_outweigh_all_later_ones() {
        let mut times = vec![(1_000_000, 1); 64];
        times.extend([(300, 64); 200]);
        let latency = weighted(&times);
        assert_eq!(within(&latency, 990), Some(384));
        assert_eq!(latency.mean(), Some(Duration::from_nanos(300)));
    }

    #[test]
    fn times_of_an_older_version_are_read() {
        let text = r#"{"total_ns":1000,"max_ns":90,"buckets":[{"up_to_ns":96,"count":10}]}"#;
        let latency: Latency = serde_json::from_str(text).unwrap();
        assert_eq!((latency.timed(), latency.mean()), (10, Some(Duration::from_nanos(90))));
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
