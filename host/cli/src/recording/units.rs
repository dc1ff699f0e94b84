//! Times and counts of a recording, for people.

use std::time::{Duration, SystemTime};

/// A moment, aligned, in seconds since the recording began.
pub(crate) fn moment(t: u64) -> String {
    let micros = t / 1_000;
    format!("{:>5}.{:06} s", micros / 1_000_000, micros % 1_000_000)
}

/// A duration with three significant digits.
pub(crate) fn duration(ns: u64) -> String {
    let (unit, size) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000_u64),
    };
    let whole = ns / size;
    let thousandths = u128::from(ns % size) * 1_000 / u128::from(size);
    match whole {
        0..10 => format!("{whole}.{:02} {unit}", thousandths / 10),
        10..100 => format!("{whole}.{} {unit}", thousandths / 100),
        _ => format!("{whole} {unit}"),
    }
}

/// A number of accesses in a time, as a rate.
pub(crate) fn rate(count: u64, ns: u64) -> String {
    if ns == 0 {
        return "-".to_owned();
    }
    let per_second = u128::from(count) * 1_000_000_000 / u128::from(ns);
    format!("{per_second}/s")
}

/// A date and time in UTC, or the number if the calendar has no such date.
pub(crate) fn date(unix_ms: u64) -> String {
    /// The year 10000.
    const END: u64 = 253_402_300_800_000;
    match unix_ms {
        0..END => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms);
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => format!("{unix_ms} ms after 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits() {
        let cases = [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_999, "999 µs"),
            (1_500_000, "1.50 ms"),
            (62_000_000_000, "62.0 s"),
            (u64::MAX, "18446744073 s"),
        ];
        for (ns, expected) in cases {
            assert_eq!(duration(ns), expected);
        }
    }

    #[test]
    fn moments_are_aligned() {
        assert_eq!(moment(1_234_567), "    0.001234 s");
        assert_eq!(moment(12_000_000_999), "   12.000000 s");
    }

    #[test]
    fn any_number_is_a_date() {
        assert_eq!(date(1_764_042_937_000), "2025-11-25T03:55:37Z");
        assert_eq!(date(u64::MAX), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn a_rate_needs_time() {
        assert_eq!((rate(5, 0), rate(5, 2_000_000_000)), ("-".to_owned(), "2/s".to_owned()));
    }
}
