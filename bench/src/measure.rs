//! Measuring two things in turn.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

/// Medians.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pair {
    pub(crate) ours: f64,
    pub(crate) reference: f64,
    /// The median of the quotients of neighbouring measurements: drift cancels.
    pub(crate) ratio: f64,
}

/// Measures one, then the other, repeatedly; the first round warms up and does
/// not count.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> Result<f64>,
    mut reference: impl FnMut() -> Result<f64>,
) -> Result<Pair> {
    let mut pairs = Vec::new();
    for _ in 0..=rounds {
        pairs.push((ours()?, reference()?));
    }
    pairs.remove(0);
    let median_of = |value: fn(&(f64, f64)) -> f64| median(pairs.iter().map(value).collect());
    Ok(Pair {
        ours: median_of(|pair| pair.0),
        reference: median_of(|pair| pair.1),
        ratio: median_of(|pair| pair.0 / pair.1),
    })
}

/// Nanoseconds that `f` takes for each of `items`, on average.
pub(crate) fn nanos_each<T: Copy, R>(items: &[T], mut f: impl FnMut(T) -> R) -> f64 {
    let start = Instant::now();
    for &item in items {
        black_box(f(black_box(item)));
    }
    start.elapsed().as_secs_f64() * 1e9 / items.len().max(1) as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
