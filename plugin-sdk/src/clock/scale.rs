//! Nanoseconds for ticks, by a multiplication and a shift.

use serde::{Deserialize, Serialize};

/// `ns = (ticks << shift) * mul / 2³²`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub(super) struct Scale {
    /// With the highest bit set, for the most precision.
    mul: u32,
    shift: i8,
}

/// A scale as it was saved, perhaps invalid.
#[derive(Deserialize)]
struct Fields {
    mul: u32,
    shift: i8,
}

const HIGHEST_BIT: u32 = 1 << 31;
const LARGEST_SHIFT: i8 = 31;

impl Default for Scale {
    /// One nanosecond per tick.
    fn default() -> Self {
        Scale { mul: HIGHEST_BIT, shift: 1 }
    }
}

impl TryFrom<Fields> for Scale {
    type Error = &'static str;

    fn try_from(Fields { mul, shift }: Fields) -> Result<Self, Self::Error> {
        match mul >= HIGHEST_BIT && shift.unsigned_abs() <= LARGEST_SHIFT.unsigned_abs() {
            true => Ok(Scale { mul, shift }),
            false => Err("a scale has bit 31 of `mul` set and a `shift` from -31 to 31"),
        }
    }
}

impl Scale {
    /// This many nanoseconds for this many ticks, rounded down; `None` if one of
    /// them is 0 or the ratio is beyond the format.
    pub(super) fn from_ratio(ns: u128, ticks: u128) -> Option<Scale> {
        let up = ns.leading_zeros();
        let quotient = ns.checked_shl(up)?.checked_div(ticks)?;
        let bits = quotient.checked_ilog2()? + 1;
        let mul = u32::try_from(quotient >> bits.checked_sub(32)?).ok()?;
        let shift = i8::try_from(i64::from(bits) - i64::from(up)).ok()?;
        Scale::try_from(Fields { mul, shift }).ok()
    }

    /// Nanoseconds for this many ticks, as a guest computes them
    /// (`pvclock_scale_delta` in Linux).
    pub(super) fn ns(self, ticks: u64) -> u64 {
        let ticks = match self.shift {
            0.. => u128::from(ticks) << self.shift,
            _ => u128::from(ticks >> self.shift.unsigned_abs()),
        };
        u64::try_from((ticks * u128::from(self.mul)) >> 32).unwrap_or(u64::MAX)
    }

    pub(super) fn mul(self) -> u32 {
        self.mul
    }

    pub(super) fn shift(self) -> i8 {
        self.shift
    }
}
