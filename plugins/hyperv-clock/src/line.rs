//! The line from time-stamp counter to reference time that a guest computes:
//! TLFS, "Partition Reference TSC Mechanism".

use serde::{Deserialize, Serialize};

/// How far ahead a line is aimed, in ticks: some 20 seconds. This is long
/// compared with the time between two lines, so the next lines undo the rounding
/// of one and it cannot add up.
pub(crate) const AIM_TICKS: u64 = 1 << AIM_BITS;
const AIM_BITS: u32 = 36;

/// `((tsc * scale) >> 64) + offset`, in units of 100 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    scale: u64,
    offset: i64,
}

impl Line {
    /// The line that has `units` at `tsc`, and reaches `aim_ns` nanoseconds
    /// [`AIM_TICKS`] later; or stands still, if it is beyond already. `None` if
    /// the page cannot express such a line.
    pub(crate) fn through(tsc: u64, units: u64, aim_ns: u64) -> Option<Line> {
        let rise_ns = u128::from(aim_ns).saturating_sub(u128::from(units) * 100);
        let scale = u64::try_from((rise_ns << (64 - AIM_BITS)) / 100).ok()?;
        let offset = i64::try_from(i128::from(units) - i128::from(scaled(tsc, scale))).ok()?;
        Some(Line { scale, offset })
    }

    /// The time at a value of the counter, not before 0.
    pub(crate) fn units_at(self, tsc: u64) -> u64 {
        let units = i128::from(scaled(tsc, self.scale)) + i128::from(self.offset);
        u64::try_from(units.max(0)).unwrap_or(u64::MAX)
    }

    /// `TscScale` and `TscOffset`, as stored in the page.
    pub(crate) fn bytes(self) -> [u8; 16] {
        let [scale, offset] = [self.scale, self.offset.cast_unsigned()];
        (u128::from(offset) << 64 | u128::from(scale)).to_le_bytes()
    }
}

fn scaled(tsc: u64, scale: u64) -> u64 {
    u64::try_from((u128::from(tsc) * u128::from(scale)) >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The time that a guest computes from the bytes in the page, as the TLFS
    /// says.
    fn guest(bytes: [u8; 16], tsc: u64) -> u64 {
        let number =
            |range: core::ops::Range<usize>| u64::from_le_bytes(bytes[range].try_into().unwrap());
        let high = (u128::from(tsc) * u128::from(number(0..8))) >> 64;
        u64::try_from(high).unwrap().wrapping_add(number(8..16))
    }

    #[test]
    fn a_counter_of_1_ghz_makes_10_units_a_microsecond() {
        let line = Line::through(5000, 7, 700 + AIM_TICKS).unwrap();
        assert_eq!(line.units_at(5000), 7);
        assert!(line.units_at(1_000_005_000).abs_diff(7 + 10_000_000) <= 1);
    }

    #[test]
    fn a_line_that_is_ahead_waits() {
        let line = Line::through(5000, 1_000_000, 1).unwrap();
        assert_eq!(line.units_at(5000), 1_000_000);
        assert_eq!(line.units_at(u64::MAX), 1_000_000);
    }

    #[test]
    fn what_the_page_cannot_hold_is_no_line() {
        // A counter of 10 MHz and less.
        assert_eq!(Line::through(0, 0, 100 * AIM_TICKS), None);
        assert!(Line::through(0, 0, 99 * AIM_TICKS).is_some());
        assert_eq!(Line::through(0, u64::MAX, u64::MAX), None);
        assert_eq!(Line::through(u64::MAX, 0, 99 * AIM_TICKS), None);
    }

    proptest! {
        #[test]
        fn a_line_goes_through_both_points(
            tsc in 0..1_u64 << 62,
            units in 0..1_u64 << 50,
            khz in 100_000..8_000_000_u64,
            ticks in 0..AIM_TICKS,
        ) {
            let rise_ns = u64::try_from(u128::from(AIM_TICKS) * 1_000_000 / u128::from(khz)).unwrap();
            let line = Line::through(tsc, units, units * 100 + rise_ns).unwrap();
            prop_assert_eq!(line.units_at(tsc), units);
            let expected = u128::from(ticks) * 10_000 / u128::from(khz);
            let risen = u128::from(line.units_at(tsc + ticks) - units);
            prop_assert!(risen.abs_diff(expected) <= 1, "{} for {}", risen, expected);
            prop_assert_eq!(guest(line.bytes(), tsc + ticks), line.units_at(tsc + ticks));
        }

        #[test]
        fn no_line_overflows(tsc: u64, units: u64, aim_ns: u64, at: u64) {
            if let Some(line) = Line::through(tsc, units, aim_ns) {
                prop_assert_eq!(line.units_at(tsc), units);
                line.units_at(at);
            }
        }
    }
}
