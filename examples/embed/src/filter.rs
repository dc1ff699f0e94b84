//! The engine's exits as KVM's filter, one range of the filter a claim.

use anyhow::{Context, Result, bail};
use kvm_ioctls::{MsrFilterDefaultAction, MsrFilterRange, MsrFilterRangeFlags, VmFd};
use wasmsr_interface::{Directions, ExitList};

/// KVM's limits: ranges of a filter, and MSRs of a range (KVM api 4.97).
const MOST_RANGES: usize = 16;
const MOST_MSRS: u32 = 0x600 * 8;

/// A cleared bit denies, and what is denied exits.
static DENY_ALL: [u8; 0x600] = [0; 0x600];

// ANCHOR: filter
/// Replaces the VM's filter, at once for all vCPUs.
pub(crate) fn install(vm: &VmFd, exits: &ExitList) -> Result<()> {
    let mut ranges = Vec::new();
    for claim in &exits.claims {
        let (mut first, last) = (claim.range.first().0, claim.range.last().0);
        if first <= 0x8ff && last >= 0x800 {
            bail!("{} claims {}, but KVM filters no x2APIC MSR", claim.plugin, claim.range);
        }
        let flags = match claim.directions {
            Directions::Read => MsrFilterRangeFlags::READ,
            Directions::Write => MsrFilterRangeFlags::WRITE,
            Directions::ReadWrite => MsrFilterRangeFlags::READ | MsrFilterRangeFlags::WRITE,
        };
        loop {
            let msr_count = (last - first).saturating_add(1).min(MOST_MSRS);
            ranges.push(MsrFilterRange { flags, base: first, msr_count, bitmap: &DENY_ALL });
            if last - first < MOST_MSRS {
                break;
            }
            first += MOST_MSRS;
        }
        // One bitmap can serve many claims, which wasmsr's own VMM makes use of.
        if ranges.len() > MOST_RANGES {
            bail!("{}: {} is more than {MOST_RANGES} ranges hold", claim.plugin, claim.range);
        }
    }
    vm.set_msr_filter(MsrFilterDefaultAction::ALLOW, &ranges).context("set the MSR filter")
}
// ANCHOR_END: filter
