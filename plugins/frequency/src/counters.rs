//! MPERF and APERF (Intel SDM volume 3, "Hardware Feedback"; AMD APM volume 2, "Effective
//! Frequency"): what passed at the TSC's rate, and at the rate that the core really had.

/// Both counters, up to a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// The guest's TSC at that moment.
    tsc: u64,
    pub(crate) mperf: u64,
    pub(crate) aperf: u64,
    /// Less than one of APERF, as a numerator over the base frequency.
    rest: u64,
}

impl Counters {
    /// Both at 0.
    pub(crate) fn new(tsc: u64) -> Self {
        Counters { tsc, mperf: 0, aperf: 0, rest: 0 }
    }

    /// Counts up to this TSC, through a time in which the core ran at `mhz`.
    pub(crate) fn advance(&mut self, tsc: u64, mhz: u32, base: u32) {
        // A guest may set its TSC back; no time has passed then.
        let passed = tsc.saturating_sub(self.tsc);
        self.tsc = tsc;
        self.mperf = self.mperf.wrapping_add(passed);
        let base = u128::from(base.max(1));
        let product = u128::from(passed) * u128::from(mhz) + u128::from(self.rest);
        self.aperf = self.aperf.wrapping_add(low_half(product / base));
        self.rest = low_half(product % base);
    }
}

/// Counters wrap at 64 bits.
fn low_half(value: u128) -> u64 {
    u64::try_from(value & u128::from(u64::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tsc_that_goes_back_stops_neither_counter() {
        let mut counters = Counters::new(1000);
        counters.advance(2000, 3000, 2000);
        counters.advance(500, 3000, 2000);
        assert_eq!((counters.mperf, counters.aperf), (1000, 1500));
        counters.advance(700, 3000, 2000);
        assert_eq!((counters.mperf, counters.aperf), (1200, 1800));
    }

    proptest! {
        /// The model is one division over the whole time, however often it is read.
        #[test]
        fn nothing_is_lost_between_readings(
            steps in prop::collection::vec(0..1_u64 << 40, 1..32),
            mhz in 1..10_000_u32,
            base in 1..10_000_u32,
        ) {
            let mut counters = Counters::new(7);
            let mut tsc = 7;
            for step in steps {
                let before = counters;
                tsc += step;
                counters.advance(tsc, mhz, base);
                prop_assert!(counters.mperf >= before.mperf && counters.aperf >= before.aperf);
                prop_assert_eq!(counters.mperf, tsc - 7);
                let whole = u128::from(tsc - 7) * u128::from(mhz) / u128::from(base);
                prop_assert_eq!(u128::from(counters.aperf), whole);
            }
        }
    }
}
