//! Measures an access through the engine and a native one in turn, so that a slow
//! machine slows both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use wasmsr_interface::{MsrAccess, MsrHandler, MsrIndex, MsrOp, Outcome, OutcomeKind};

/// How often both are measured; the result is the median.
const ROUNDS: usize = 101;

/// The duration of one measurement of the engine.
const ROUND: Duration = Duration::from_micros(200);

/// Most accesses in one measurement.
const MOST_ACCESSES: u32 = 10_000;

/// Medians, in nanoseconds per access.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub(super) ours: f64,
    pub(super) native: f64,
    /// The median ratio of two measurements that followed each other.
    pub(super) ratio: f64,
}

/// The outcomes that occurred, one bit each: cheap enough to be noted while the time is
/// measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Outcomes(u8);

impl Outcomes {
    pub(super) fn note(&mut self, outcome: &Outcome) {
        self.0 |= 1 << outcome.kind() as u8;
    }

    /// The outcome, if all were the same.
    pub(super) fn only(self) -> Option<&'static str> {
        let mut seen = OutcomeKind::ALL.into_iter().filter(|&kind| self.0 & 1 << kind as u8 != 0);
        seen.next().filter(|_| seen.next().is_none()).map(OutcomeKind::name)
    }
}

/// Code that a VMM could have for one MSR.
struct Native {
    index: MsrIndex,
    value: u64,
}

impl MsrHandler for Native {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        match access.op {
            MsrOp::Read if access.index == self.index => Outcome::Value(self.value),
            MsrOp::Write(value) if access.index == self.index => {
                self.value = value;
                Outcome::Done
            }
            _ => Outcome::Fault,
        }
    }
}

/// Measures one access again and again, and notes its outcomes.
pub(super) fn access(
    ours: &mut dyn MsrHandler,
    access: MsrAccess,
    outcomes: &mut Outcomes,
) -> Pair {
    let mut native_outcomes = Outcomes::default();
    let mut native: Box<dyn MsrHandler> = Box::new(Native { index: access.index, value: 0 });
    // The first call compiles nothing, but finds cold caches.
    let once = nanos_each(&mut *ours, access, 16, outcomes).max(1.0);
    let wanted = ROUND.as_secs_f64() * 1e9 / once;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let count = wanted.clamp(1.0, f64::from(MOST_ACCESSES)) as u32;
    let mut pairs = Vec::new();
    for _ in 0..=ROUNDS {
        let own = nanos_each(&mut *ours, access, count, outcomes);
        let native = nanos_each(&mut *native, access, MOST_ACCESSES, &mut native_outcomes);
        pairs.push((own, native));
    }
    // The first pair warmed up.
    pairs.remove(0);
    let of = |value: fn(&(f64, f64)) -> f64| median(pairs.iter().map(value).collect());
    Pair { ours: of(|pair| pair.0), native: of(|pair| pair.1), ratio: of(|pair| pair.0 / pair.1) }
}

fn nanos_each(
    handler: &mut dyn MsrHandler,
    access: MsrAccess,
    count: u32,
    outcomes: &mut Outcomes,
) -> f64 {
    let start = Instant::now();
    for _ in 0..count {
        outcomes.note(&black_box(handler.answer(black_box(access))));
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
}

/// The median time of some runs.
pub(super) fn time<T, E>(runs: usize, mut run: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    let mut times = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let result = run()?;
        times.push(start.elapsed().as_secs_f64() * 1e9);
        drop(black_box(result));
    }
    Ok(median(times))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_a_name_if_all_are_the_same() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.only(), None);
        for value in [1, 2] {
            outcomes.note(&Outcome::Value(value));
            assert_eq!(outcomes.only(), Some("value"));
        }
        outcomes.note(&Outcome::Fault);
        assert_eq!(outcomes.only(), None);
        let mut outcomes = Outcomes::default();
        outcomes.note(&Outcome::Kernel);
        assert_eq!(outcomes.only(), Some("kernel"));
    }
}
