//! An amount of energy, and the value of an energy counter.

use serde::{Deserialize, Serialize};

/// Picojoules: 1 mW for 1 ns. The host's counters are much coarser: 2⁻¹⁴ J, 2⁻¹⁶
/// J, or 10⁻⁶ J in powercap's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Picojoules(pub(crate) u128);

const PER_JOULE: u64 = 1_000_000_000_000;

impl Picojoules {
    /// A number of units of 2⁻ᵘⁿⁱᵗ J.
    pub(crate) fn from_units(count: u64, unit: EnergyUnit) -> Self {
        Picojoules((u128::from(count) * u128::from(PER_JOULE)) >> unit.0)
    }

    /// A number of microjoules.
    pub(crate) fn from_micro(count: u64) -> Self {
        Picojoules(u128::from(count) * 1_000_000)
    }
}

/// The exponent of an energy unit: `ESU` for 2⁻ᴱˢᵁ J, bits 12:8 of
/// `MSR_RAPL_POWER_UNIT` (Intel SDM volume 3, section 15.10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EnergyUnit(u8);

impl EnergyUnit {
    pub(crate) const MAX: u8 = 31;

    /// A joule.
    pub(crate) const JOULE: EnergyUnit = EnergyUnit(0);

    /// 2⁻¹⁶ J, 15.3 µJ: AMD's, and that of the memory in Intel's servers.
    pub(crate) const FINEST_USUAL: EnergyUnit = EnergyUnit(16);

    /// The unit with this exponent, if five bits hold it.
    pub(crate) fn new(exponent: u8) -> Option<Self> {
        (exponent <= Self::MAX).then_some(EnergyUnit(exponent))
    }

    /// The unit that a value of `MSR_RAPL_POWER_UNIT` names.
    pub(crate) fn of_msr(power_unit: u64) -> Self {
        let [_, exponent, ..] = power_unit.to_le_bytes();
        EnergyUnit(exponent & Self::MAX)
    }

    pub(crate) fn exponent(self) -> u8 {
        self.0
    }
}

/// The energy that a domain has used since the machine's reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Energy {
    joules: u64,
    /// Less than a joule.
    picojoules: u64,
}

impl Energy {
    pub(crate) fn add(&mut self, more: Picojoules) {
        let sum = u128::from(self.picojoules) + more.0;
        let per_joule = u128::from(PER_JOULE);
        // Wrapping: 2³² divides 2⁶⁴, so no counter shows it.
        self.joules = self.joules.wrapping_add(low_half(sum / per_joule));
        self.picojoules = low_half(sum % per_joule);
    }

    /// The value of a 32-bit counter, which wraps as hardware's does.
    pub(crate) fn counter(self, unit: EnergyUnit) -> u64 {
        let whole = self.joules.wrapping_shl(unit.0.into());
        let part = (u128::from(self.picojoules) << unit.0) / u128::from(PER_JOULE);
        whole.wrapping_add(low_half(part)) & 0xffff_ffff
    }

    /// One of `count` equal parts.
    pub(crate) fn part(self, count: u32) -> Self {
        let count = u128::from(count.max(1));
        let per_joule = u128::from(PER_JOULE);
        let part = (u128::from(self.joules) * per_joule + u128::from(self.picojoules)) / count;
        Energy { joules: low_half(part / per_joule), picojoules: low_half(part % per_joule) }
    }

    /// Whether [`add`](Self::add) can lead to this amount.
    pub(crate) fn is_sound(self) -> bool {
        self.picojoules < PER_JOULE
    }
}

fn low_half(value: u128) -> u64 {
    let low = value & u128::from(u64::MAX);
    u64::try_from(low).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JOULE: Picojoules = Picojoules(PER_JOULE as u128);
    const UNIT_16: EnergyUnit = EnergyUnit(16);

    #[test]
    fn a_joule_is_as_many_units_as_the_register_says() {
        let mut energy = Energy::default();
        energy.add(JOULE);
        for (power_unit, units) in [(0xa_0e03, 1 << 14), (0xa_1003, 1 << 16), (0, 1)] {
            assert_eq!(energy.counter(EnergyUnit::of_msr(power_unit)), units);
        }
    }

    #[test]
    fn the_counter_wraps_at_32_bits() {
        let mut energy = Energy::default();
        energy.add(Picojoules::from_units(0xffff_ffff, UNIT_16));
        // Rounded down: a unit of 2⁻¹⁶ J is not a whole number of picojoules.
        assert_eq!(energy.counter(UNIT_16), 0xffff_fffe);
        energy.add(Picojoules::from_units(2, UNIT_16));
        assert_eq!(energy.counter(UNIT_16), 0);
    }

    #[test]
    fn microjoules_are_a_million_picojoules() {
        assert_eq!(Picojoules::from_micro(1_000_000), JOULE);
        assert_eq!(Picojoules::from_units(1 << 16, UNIT_16), JOULE);
    }

    #[test]
    fn parts_are_equal_and_no_more_than_the_whole() {
        let mut energy = Energy::default();
        energy.add(Picojoules(7 * u128::from(PER_JOULE)));
        assert_eq!(energy.part(2).counter(UNIT_16), (7 << 16) / 2);
        assert_eq!(energy.part(1), energy);
        assert_eq!(energy.part(0), energy, "no vCPU is no reason to stop");
    }

    proptest! {
        /// The model keeps one large number.
        #[test]
        fn a_counter_is_the_sum_in_units_modulo_32_bits(
            amounts in prop::collection::vec(0..1_u128 << 96, 0..32),
            exponent in 0..=EnergyUnit::MAX,
        ) {
            let unit = EnergyUnit::new(exponent).unwrap();
            let (mut energy, mut sum) = (Energy::default(), 0_u128);
            for amount in amounts {
                energy.add(Picojoules(amount));
                sum += amount;
                prop_assert!(energy.is_sound());
                let whole = (sum / u128::from(PER_JOULE)) << exponent;
                let part = ((sum % u128::from(PER_JOULE)) << exponent) / u128::from(PER_JOULE);
                let counter = (whole + part) % (1 << 32);
                prop_assert_eq!(u128::from(energy.counter(unit)), counter);
            }
        }
    }
}
