//! AMD's registers: P-states (APM volume 2, "P-State Control" and the processor programming
//! references of family 17h and later), and collaborative performance control (CPPC).

use alloc::vec::Vec;

use wasmsr_sdk::{MsrIndex, Otherwise};

use crate::kept::{Kept, Others, Registers};
use crate::speeds::Speeds;

const PSTATE_LIMIT: MsrIndex = MsrIndex(0xc001_0061);
const PSTATE_CONTROL: MsrIndex = MsrIndex(0xc001_0062);
const PSTATE_STATUS: MsrIndex = MsrIndex(0xc001_0063);
const PSTATE_FIRST: u32 = 0xc001_0064;
const PSTATE_LAST: u32 = 0xc001_006b;
const COFVID_STATUS: MsrIndex = MsrIndex(0xc001_0071);
const HARDWARE_PSTATE_STATUS: MsrIndex = MsrIndex(0xc001_0293);
const CPPC_CAPABILITY: MsrIndex = MsrIndex(0xc001_02b0);
const CPPC_ENABLE: MsrIndex = MsrIndex(0xc001_02b1);
const CPPC_CAPABILITY_2: MsrIndex = MsrIndex(0xc001_02b2);
const CPPC_REQUEST: MsrIndex = MsrIndex(0xc001_02b3);
const CPPC_STATUS: MsrIndex = MsrIndex(0xc001_02b4);

/// The definition is valid.
const PSTATE_ENABLED: u64 = 1 << 63;
/// Speeds are multiples of 25 MHz with a divisor of 8: 200 MHz × FID / DID.
pub(crate) const STEP_MHZ: u32 = 25;
const DIVISOR: u64 = 8;
/// Performance at the highest speed.
const HIGHEST: u32 = 255;

/// The registers of an AMD processor.
#[derive(Debug, Clone)]
pub(crate) struct Amd {
    pub(crate) registers: Registers,
    /// From the fastest to the slowest; the first is the base speed.
    pstates: Vec<u32>,
    has_cppc: bool,
}

impl Amd {
    pub(crate) fn new(pstates: Vec<u32>, cppc: bool) -> Self {
        let others = Others::Fault;
        let kept = |msr: MsrIndex, mask| Kept { msr: msr.0, at_reset: 0, mask, others, sticky: 0 };
        let mut list = Vec::from([kept(PSTATE_CONTROL, 0x7)]);
        if cppc {
            list.push(Kept { sticky: 1, ..kept(CPPC_ENABLE, 1) });
            // Highest, lowest and desired performance, energy preference.
            list.push(kept(CPPC_REQUEST, 0xffff_ffff));
            list.push(Kept { others: Others::Ignored, ..kept(CPPC_STATUS, 0) });
        }
        Amd { registers: Registers::new(&list), pstates, has_cppc: cppc }
    }

    pub(crate) fn read(&self, msr: MsrIndex, speeds: &Speeds) -> Result<u64, Otherwise> {
        if let Some(value) = self.registers.get(msr) {
            return Ok(value);
        }
        let last = self.pstates.len().saturating_sub(1);
        Ok(match msr {
            // No limit but the slowest one, which is the highest number.
            PSTATE_LIMIT => u64::try_from(last).unwrap_or(0) << 4,
            PSTATE_STATUS => self.pstate(),
            MsrIndex(msr @ PSTATE_FIRST..=PSTATE_LAST) => {
                let place = usize::try_from(msr - PSTATE_FIRST).ok();
                let mhz = place.and_then(|place| self.pstates.get(place));
                mhz.map_or(0, |mhz| PSTATE_ENABLED | DIVISOR << 8 | multiplier(*mhz))
            }
            COFVID_STATUS => self.pstate() << 16 | legacy_multiplier(self.mhz(speeds)),
            HARDWARE_PSTATE_STATUS => {
                self.pstate() << 22 | DIVISOR << 8 | multiplier(self.mhz(speeds))
            }
            CPPC_CAPABILITY if self.has_cppc => {
                let (low, base) =
                    (performance(speeds.min, speeds), performance(speeds.base, speeds));
                // From the lowest byte up: lowest, lowest that is efficient, nominal, highest.
                u64::from(HIGHEST) << 24 | base << 16 | low << 8 | low
            }
            CPPC_CAPABILITY_2 if self.has_cppc => u64::from(HIGHEST),
            _ => return Err(Otherwise::Fault),
        })
    }

    pub(crate) fn write(&mut self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        match msr {
            // The definitions are the platform's.
            MsrIndex(PSTATE_FIRST..=PSTATE_LAST) => Ok(()),
            _ => self.registers.write(msr, value),
        }
    }

    /// How fast the core runs.
    pub(crate) fn mhz(&self, speeds: &Speeds) -> u32 {
        let value = |msr| self.registers.get(msr).unwrap_or(0);
        if value(CPPC_ENABLE) != 0 {
            let [most, _, desired, ..] = value(CPPC_REQUEST).to_le_bytes();
            let wanted = if desired == 0 { most } else { desired.min(most) };
            return speeds.granted(u32::from(wanted) * speeds.highest() / HIGHEST, true);
        }
        let mhz = usize::try_from(self.pstate()).ok().and_then(|place| self.pstates.get(place));
        match mhz {
            // Boost is above the first state.
            Some(mhz) if *mhz == speeds.base => speeds.granted(u32::MAX, true),
            Some(mhz) => *mhz,
            None => speeds.base,
        }
    }

    /// The state that a request leads to: one that exists.
    fn pstate(&self) -> u64 {
        let last = u64::try_from(self.pstates.len().saturating_sub(1)).unwrap_or(0);
        self.registers.get(PSTATE_CONTROL).unwrap_or(0).min(last)
    }
}

/// `CpuFid` of family 17h and 19h, with [`DIVISOR`].
fn multiplier(mhz: u32) -> u64 {
    u64::from(mhz / STEP_MHZ).min(0xff)
}

/// `CurCpuFid` of families 10h to 16h: 100 MHz × (FID + 16), with a divisor of 1.
fn legacy_multiplier(mhz: u32) -> u64 {
    u64::from(mhz / 100).saturating_sub(16).min(0x3f)
}

fn performance(mhz: u32, speeds: &Speeds) -> u64 {
    u64::from(mhz) * u64::from(HIGHEST) / u64::from(speeds.highest().max(1))
}
