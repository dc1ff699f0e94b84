//! Intel's registers (SDM volume 3, chapter "Power and Thermal Management", and volume 4,
//! table 2-2 and the tables of processors since Sandy Bridge).

use alloc::vec::Vec;

use wasmsr_sdk::{MsrIndex, Otherwise};

use crate::kept::{Kept, Others, Registers};
use crate::speeds::{Speeds, mhz_of, ratio};

const PERF_STATUS: MsrIndex = MsrIndex(0x198);
const PERF_CTL: MsrIndex = MsrIndex(0x199);
const THERM_STATUS: MsrIndex = MsrIndex(0x19c);
const TEMPERATURE_TARGET: MsrIndex = MsrIndex(0x1a2);
const TURBO_RATIO_LIMITS: [u32; 3] = [0x1ad, 0x1ae, 0x1af];
const PACKAGE_THERM_STATUS: MsrIndex = MsrIndex(0x1b1);
const UNCORE_PERF_STATUS: MsrIndex = MsrIndex(0x621);
const CONFIG_TDP_NOMINAL: MsrIndex = MsrIndex(0x648);
/// No other level than the nominal one.
const CONFIG_TDP_LEVELS: [u32; 2] = [0x649, 0x64a];
const PM_ENABLE: MsrIndex = MsrIndex(0x770);
const HWP_CAPABILITIES: MsrIndex = MsrIndex(0x771);
const HWP_REQUEST: MsrIndex = MsrIndex(0x774);
const HWP_PECI_REQUEST_INFO: MsrIndex = MsrIndex(0x775);
const HWP_STATUS: MsrIndex = MsrIndex(0x777);

/// Turbo disengaged, in `IA32_PERF_CTL`.
const DISENGAGED: u64 = 1 << 32;
/// Lowest 1, highest 255, no desired one, energy preference in the middle: the value
/// after a reset (SDM volume 3, "Managing HWP").
const HWP_REQUEST_AT_RESET: u64 = 0x8000_ff01;
/// Lock of `MSR_CONFIG_TDP_CONTROL` and `MSR_TURBO_ACTIVATION_RATIO`.
const LOCK: u64 = 1 << 31;

/// The registers of an Intel processor.
#[derive(Debug, Clone)]
pub(crate) struct Intel {
    pub(crate) registers: Registers,
    /// As offset from the highest temperature, in the form of a thermal status.
    thermal_status: u64,
    temperature_target: u64,
    /// `MSR_TURBO_RATIO_LIMIT`, 1 and 2.
    turbo_limits: [u64; 3],
    has_hwp: bool,
}

/// What the configuration says of an Intel processor alone.
pub(crate) struct Options {
    pub(crate) hwp: bool,
    pub(crate) highest_temperature: u8,
    /// Not above the highest, and at most 127 below.
    pub(crate) temperature: u8,
    /// How many cores may be busy for each speed of turbo, as servers since Skylake say it.
    pub(crate) turbo_cores: Option<Vec<u8>>,
}

impl Intel {
    pub(crate) fn new(speeds: &Speeds, options: &Options) -> Self {
        let kept = |msr, at_reset, mask, others| Kept { msr, at_reset, mask, others, sticky: 0 };
        let base = ratio(speeds.base);
        let mut list = Vec::from([
            kept(PERF_CTL.0, base << 8, DISENGAGED | 0xffff, Others::Ignored),
            // IA32_CLOCK_MODULATION: duty cycle in bits 4:0.
            kept(0x19a, 0, 0x1f, Others::Fault),
            // IA32_THERM_INTERRUPT, IA32_PACKAGE_THERM_INTERRUPT: enables and thresholds.
            kept(0x19b, 0, 0x03ff_ff1f, Others::Ignored),
            kept(0x1b2, 0, 0x03ff_ff1f, Others::Ignored),
            kept(0x1aa, 0, u64::MAX, Others::Ignored),
            // IA32_ENERGY_PERF_BIAS: 6, balanced.
            kept(0x1b0, 6, 0xf, Others::Fault),
            // MSR_UNCORE_RATIO_LIMIT: highest in bits 6:0, lowest in 14:8.
            kept(0x620, ratio(speeds.min) << 8 | base, 0x7f7f, Others::Ignored),
            kept(0x64b, LOCK, 0, Others::Ignored),
            kept(0x64c, LOCK, 0, Others::Ignored),
        ]);
        if options.hwp {
            list.extend([
                Kept { sticky: 1, ..kept(PM_ENABLE.0, 0, 1, Others::Fault) },
                // IA32_HWP_REQUEST_PKG, IA32_HWP_INTERRUPT.
                kept(0x772, HWP_REQUEST_AT_RESET, 0x3ff_ffff_ffff, Others::Fault),
                kept(0x773, 0, 0x3, Others::Fault),
                // Bit 42 takes the package's request; 63:59 say which fields it does not.
                kept(HWP_REQUEST.0, HWP_REQUEST_AT_RESET, 0xf800_07ff_ffff_ffff, Others::Fault),
                // Software clears its bits, of which none is ever set.
                kept(HWP_STATUS.0, 0, 0, Others::Ignored),
            ]);
        }
        let below = u64::from(options.highest_temperature.saturating_sub(options.temperature));
        Intel {
            registers: Registers::new(&list),
            // Valid, a resolution of one degree.
            thermal_status: 1 << 31 | 1 << 27 | below << 16,
            temperature_target: u64::from(options.highest_temperature) << 16,
            turbo_limits: turbo_limits(speeds, options.turbo_cores.as_deref()),
            has_hwp: options.hwp,
        }
    }

    pub(crate) fn read(&self, msr: MsrIndex, speeds: &Speeds) -> Result<u64, Otherwise> {
        if let Some(value) = self.registers.get(msr) {
            return Ok(value);
        }
        Ok(match msr {
            PERF_STATUS => ratio(self.mhz(speeds)) << 8,
            THERM_STATUS => self.thermal_status,
            // The same sensor; validity and resolution are bits of a core's.
            PACKAGE_THERM_STATUS => self.thermal_status & 0x7f_0000,
            TEMPERATURE_TARGET => self.temperature_target,
            UNCORE_PERF_STATUS | CONFIG_TDP_NOMINAL => ratio(speeds.base),
            HWP_CAPABILITIES if self.has_hwp => {
                let (low, base) = (ratio(speeds.min), ratio(speeds.base));
                // From the lowest byte up: highest, guaranteed, most efficient, lowest.
                low << 24 | low << 16 | base << 8 | ratio(speeds.highest())
            }
            HWP_PECI_REQUEST_INFO if self.has_hwp => 0,
            MsrIndex(index) => {
                let limits = TURBO_RATIO_LIMITS.iter().zip(self.turbo_limits);
                let limit = limits.into_iter().find(|(msr, _)| **msr == index);
                match limit {
                    Some((_, limit)) => limit,
                    None if CONFIG_TDP_LEVELS.contains(&index) => 0,
                    None => return Err(Otherwise::Fault),
                }
            }
        })
    }

    pub(crate) fn write(&mut self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        match msr {
            // Software clears log bits, of which none is ever set.
            THERM_STATUS | PACKAGE_THERM_STATUS => Ok(()),
            _ => self.registers.write(msr, value),
        }
    }

    /// How fast the core runs.
    pub(crate) fn mhz(&self, speeds: &Speeds) -> u32 {
        let value = |msr| self.registers.get(msr).unwrap_or(0);
        if value(PM_ENABLE) != 0 {
            let request = value(HWP_REQUEST);
            let (most, desired) = (mhz_of(request >> 8), mhz_of(request >> 16));
            let wanted = if desired == 0 { most } else { desired.min(most) };
            return speeds.granted(wanted, true);
        }
        let request = value(PERF_CTL);
        speeds.granted(mhz_of(request >> 8), request & DISENGAGED == 0)
    }
}

/// A byte for each speed; with `cores`, the second register says for how many cores each
/// is (SDM volume 4, table 2-50). Otherwise the list goes on in the next registers (table
/// 2-25), and its last speed fills the first register, of which all bytes count.
fn turbo_limits(speeds: &Speeds, cores: Option<&[u8]>) -> [u64; 3] {
    let last = speeds.turbo.last().copied().unwrap_or(speeds.base);
    let bytes = |of: &mut dyn Iterator<Item = u64>| {
        of.take(8).enumerate().fold(0, |all, (place, byte)| all | byte << (8 * place))
    };
    let mut ratios = speeds.turbo.iter().map(|mhz| ratio(*mhz));
    let filled = core::iter::repeat_n(ratio(last), 8_usize.saturating_sub(speeds.turbo.len()));
    match cores {
        Some(cores) => {
            let filled_cores = core::iter::repeat_n(0xff, 8_usize.saturating_sub(cores.len()));
            let mut cores = cores.iter().map(|count| u64::from(*count)).chain(filled_cores);
            [bytes(&mut ratios.chain(filled)), bytes(&mut cores), 0]
        }
        None => {
            let first = bytes(&mut ratios.by_ref().take(8).chain(filled));
            [first, bytes(&mut ratios.by_ref().take(8)), bytes(&mut ratios)]
        }
    }
}
