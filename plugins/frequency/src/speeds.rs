//! How fast the processor may run, in MHz.

use alloc::vec::Vec;

/// Intel's ratios are multiples of this on all processors since Sandy Bridge.
pub(crate) const BUS_MHZ: u32 = 100;

/// The speeds of the processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Speeds {
    pub(crate) min: u32,
    /// Without turbo, and the TSC's.
    pub(crate) base: u32,
    /// With turbo, from the fewest busy cores to the most; none is faster than the one
    /// before it, and none is slower than `base`.
    pub(crate) turbo: Vec<u32>,
    /// With the VM's cores busy.
    pub(crate) all_cores: u32,
}

impl Speeds {
    /// The highest of all.
    pub(crate) fn highest(&self) -> u32 {
        self.turbo.first().copied().unwrap_or(self.base)
    }

    /// What a request for `mhz` gets, where turbo is allowed or not.
    pub(crate) fn granted(&self, mhz: u32, turbo: bool) -> u32 {
        let most = if turbo { self.all_cores } else { self.base };
        mhz.min(most).max(self.min)
    }
}

/// A speed as Intel's ratio. Speeds are at most 255 of them.
pub(crate) fn ratio(mhz: u32) -> u64 {
    u64::from(mhz / BUS_MHZ)
}

/// The speed of an eight-bit ratio in bits 7:0.
pub(crate) fn mhz_of(ratio: u64) -> u32 {
    let [ratio, ..] = ratio.to_le_bytes();
    u32::from(ratio) * BUS_MHZ
}
