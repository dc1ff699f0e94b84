//! A guard against models and hostile states.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn limit() -> impl Strategy<Value = Limit> {
    (prop::option::of(0..6_u64), any::<bool>(), 1..4_u32, 0..4_usize).prop_map(
        |(writes, in_window, window_s, history)| Limit { writes, in_window, window_s, history },
    )
}

/// Divides a whole history, one time per write, into windows.
fn windows(times: &[u64], length: u64) -> Vec<usize> {
    let mut windows = Vec::new();
    let mut rest = times;
    while let [first, ..] = rest {
        let end = rest.iter().position(|time| *time >= first + length).unwrap_or(rest.len());
        windows.push(end);
        rest = &rest[end..];
    }
    windows
}

proptest! {
    /// The model keeps the whole history and derives everything from it.
    #[test]
    fn a_guard_is_the_history_of_its_writes(
        limit in limit(),
        // Steps of a quarter of a second, so that writes meet the edges of windows.
        writes in prop::collection::vec((0..8_u64, any::<u64>()), 0..40),
    ) {
        let mut guard = Guard::new(limit);
        let (mut times, mut values, mut faults) = (Vec::new(), Vec::new(), 0);
        let mut now = 0;
        for (later, value) in writes {
            now += later * SECOND / 4;
            times.push(now);
            values.push(value);
            let windows = windows(&times, u64::from(limit.window_s) * SECOND);
            let counted = if limit.in_window { *windows.last().unwrap() } else { times.len() };
            let faulting = limit.writes.is_some_and(|most| counted as u64 > most);
            faults += u64::from(faulting);
            let ruling = if faulting { Ruling::Faults } else { Ruling::Passes };
            prop_assert_eq!(guard.write(value, now), ruling);

            prop_assert_eq!(guard.writes(), times.len() as u64);
            prop_assert_eq!(guard.faults(), faults);
            prop_assert_eq!(guard.fastest(), *windows.iter().max().unwrap() as u64);
            let newest: Vec<u64> = values.iter().rev().take(limit.history).copied().collect();
            prop_assert_eq!(guard.values().collect::<Vec<_>>(), newest);

            // Whatever the history, another guard can restore it.
            let mut heir = Guard::new(limit);
            prop_assert_eq!(heir.take_over(guard.keep()), Some(()));
            prop_assert_eq!(&heir, &guard);
        }
        guard.reset();
        prop_assert_eq!(guard, Guard::new(limit));
    }

    #[test]
    fn no_kept_state_leads_to_more_than_the_limit(
        limit in limit(),
        numbers in prop::array::uniform5(prop_oneof![0..4_u64, Just(u64::MAX), any::<u64>()]),
        values in prop::collection::vec(any::<u64>().prop_map(Bits64), 0..8),
        now in any::<u64>(),
    ) {
        let [writes, faults, window_ns, in_window, fastest] = numbers;
        let kept = Kept {
            writes, faults, window_s: 1, window_ns, in_window, fastest, values: values.into(),
        };
        let mut guard = Guard::new(limit);
        if guard.take_over(kept).is_none() {
            prop_assert_eq!(&guard, &Guard::new(limit));
        }
        // The first may be in a window that goes on.
        let passed = (0..20).filter(|_| guard.write(0, now) == Ruling::Passes).count();
        prop_assert!(limit.writes.is_none_or(|most| passed as u64 <= most));
        prop_assert!(guard.values().count() <= limit.history);
    }
}

fn per_second(writes: u64) -> Limit {
    Limit { writes: Some(writes), in_window: true, window_s: 1, history: 0 }
}

#[test]
fn a_clock_that_goes_back_begins_a_window() {
    let mut guard = Guard::new(per_second(1));
    assert_eq!(guard.write(0, u64::MAX), Ruling::Passes);
    assert_eq!(guard.write(0, u64::MAX), Ruling::Faults);
    assert_eq!(guard.write(0, 0), Ruling::Passes);
    assert_eq!(guard.write(0, 0), Ruling::Faults);
}

#[test]
fn counts_have_an_end_and_stay_there() {
    let mut guard = Guard::new(per_second(1));
    guard.write(0, 0);
    let most = Kept {
        writes: u64::MAX,
        faults: u64::MAX,
        in_window: u64::MAX,
        fastest: u64::MAX,
        ..guard.keep()
    };
    guard.take_over(most).unwrap();
    assert_eq!(guard.write(0, 0), Ruling::Faults);
    assert_eq!((guard.writes(), guard.faults()), (u64::MAX, u64::MAX));
}

#[test]
fn another_length_of_windows_begins_them_anew() {
    let mut old = Guard::new(per_second(5));
    old.write(7, 0);
    let mut new = Guard::new(Limit { window_s: 2, history: 4, ..per_second(5) });
    new.take_over(old.keep()).unwrap();
    assert_eq!((new.writes(), new.fastest()), (1, 0));
}
