//! The MSRs that guests use, and their answers if KVM refuses the access.
//!
//! Numbers and names are those of Linux, `arch/x86/include/asm/msr-index.h`.
//! README.md has the report behind each.

use wasmsr_sdk::{MsrIndex, MsrRange, Otherwise};

/// `MSR_K7_HWCR`
pub(crate) const HWCR: MsrIndex = MsrIndex(0xc001_0015);
/// HWCR\[24\], `TscFreqSel`: the TSC counts at the P0 frequency.
pub(crate) const HWCR_TSC_FREQ_SEL: u64 = 1 << 24;
/// `MSR_AMD64_PATCH_LEVEL`
pub(crate) const PATCH_LEVEL: MsrIndex = MsrIndex(0x8b);

/// HWCR\[18\], `McStatusWrEn`. KVM keeps this and `TscFreqSel`.
const HWCR_MC_STATUS_WR_EN: u64 = 1 << 18;
/// DE_CFG\[1\]: LFENCE waits for all earlier instructions.
const DE_CFG_LFENCE_SERIALIZE: u64 = 1 << 1;
/// 1, with 32 fractional bits; the value after a reset (AMD APM volume 2, "TSC
/// Ratio MSR").
const TSC_RATIO_ONE: u64 = 1 << 32;
/// The bits of `PerfEvtSeln` that KVM accepts: all but `reserved_bits` of its
/// `amd_pmu_refresh`, which include `HG_ONLY`, 41:40.
const PERF_EVT_SEL: u64 = 0x0000_000f_ffd7_ffff;

/// MSRs with the same rule.
#[derive(Debug)]
pub(crate) struct Registers {
    pub(crate) msrs: &'static [u32],
    pub(crate) read: Read,
    pub(crate) write: Write,
}

/// The answer to a read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Read {
    Value(u64),
    /// Passed on.
    Pass,
}

/// The answer to a write.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write {
    Ignored,
    /// Accepted if it is this value, which the register reads as; else passed
    /// on.
    Only(u64),
    /// These bits go to KVM, which refused the write because of others.
    Offered {
        bits: u64,
        /// The answer if KVM refuses these too.
        refused: Result<(), Otherwise>,
    },
    /// Passed on.
    Pass,
}

/// Every register that the plugin answers.
pub(crate) const REGISTERS: &[Registers] = &[
    // MSR_AMD64_TSC_RATIO: no scaling, which is the case.
    Registers {
        msrs: &[0xc000_0104],
        read: Read::Value(TSC_RATIO_ONE),
        write: Write::Only(TSC_RATIO_ONE),
    },
    Registers {
        msrs: &[HWCR.0],
        read: Read::Value(0),
        write: Write::Offered { bits: HWCR_MC_STATUS_WR_EN | HWCR_TSC_FREQ_SEL, refused: Ok(()) },
    },
    // MSR_AMD_PSTATE_DEF_BASE: with bit 63 clear none of them is a P-state.
    Registers {
        msrs: &[
            0xc001_0064,
            0xc001_0065,
            0xc001_0066,
            0xc001_0067,
            0xc001_0068,
            0xc001_0069,
            0xc001_006a,
            0xc001_006b,
        ],
        read: Read::Value(0),
        write: Write::Pass,
    },
    // MSR_VM_IGNNE: kvm-amd drops writes itself, so there is no value to keep.
    Registers { msrs: &[0xc001_0115], read: Read::Value(0), write: Write::Ignored },
    // MSR_F15H_PERF_CTL0 to 5. A guest without counters must not find any.
    Registers {
        msrs: &[0xc001_0200, 0xc001_0202, 0xc001_0204, 0xc001_0206, 0xc001_0208, 0xc001_020a],
        read: Read::Pass,
        write: Write::Offered { bits: PERF_EVT_SEL, refused: Err(Otherwise::Pass) },
    },
    // MSR_AMD64_TW_CFG, answered as newer kernels do.
    Registers { msrs: &[0xc001_1023], read: Read::Value(0), write: Write::Ignored },
    // MSR_AMD64_DE_CFG
    Registers {
        msrs: &[0xc001_1029],
        read: Read::Value(0),
        write: Write::Offered { bits: DE_CFG_LFENCE_SERIALIZE, refused: Ok(()) },
    },
    // MSR_AMD64_IBSFETCHCTL to IBSOPDATA4: off, no sample, and in IBSCTL no
    // valid offset of a local APIC's entry, so that drivers do not use it.
    Registers {
        msrs: &[
            0xc001_1030,
            0xc001_1031,
            0xc001_1032,
            0xc001_1033,
            0xc001_1034,
            0xc001_1035,
            0xc001_1036,
            0xc001_1037,
            0xc001_1038,
            0xc001_1039,
            0xc001_103a,
            0xc001_103b,
            0xc001_103c,
            0xc001_103d,
        ],
        read: Read::Value(0),
        write: Write::Only(0),
    },
];

/// The entry of an MSR.
pub(crate) fn find(msr: MsrIndex) -> Option<&'static Registers> {
    REGISTERS.iter().find(|registers| registers.msrs.contains(&msr.0))
}

/// Whether any of these MSRs is in the table.
pub(crate) fn has_any_of(range: MsrRange) -> bool {
    let mut msrs = REGISTERS.iter().flat_map(|registers| registers.msrs);
    msrs.any(|msr| range.contains(MsrIndex(*msr)))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let msrs: Vec<u32> =
            REGISTERS.iter().flat_map(|registers| registers.msrs).copied().collect();
        assert!(msrs.is_sorted_by(|one, next| one < next), "{msrs:x?}");
        assert!(msrs.iter().all(|msr| find(MsrIndex(*msr)).is_some()));
    }
}
