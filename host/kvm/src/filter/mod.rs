//! The MSR filter: from what must exit to KVM's ranges and bitmaps.
//!
//! KVM takes at most 16 ranges, each of at most 0x600 bytes of bitmap, and the
//! first range that matches index and direction decides
//! (`KVM_X86_SET_MSR_FILTER`, KVM api section 4.97).
#![expect(unsafe_code, reason = "an ioctl")]

mod cover;
mod runs;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;

use wasmsr_interface::{Direction, Directions, ExitList, MsrIndex, MsrRange};

use crate::ioctl;
use crate::refused::Refused;
use crate::uapi::{
    KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE, KVM_X86_SET_MSR_FILTER, MsrFilter, MsrFilterRange,
};
use cover::Cover;
use runs::{Kind, Run};

/// Most ranges in one filter (`KVM_MSR_FILTER_MAX_RANGES`).
pub const MAX_RANGES: usize = 16;

/// Most MSRs in one range: 0x600 bytes of bitmap
/// (`KVM_MSR_FILTER_MAX_BITMAP_SIZE`).
pub const MAX_MSRS_PER_RANGE: u32 = 0x600 * 8;

/// First and last x2APIC MSR, which KVM never filters.
const X2APIC: (MsrIndex, MsrIndex) = (MsrIndex(0x800), MsrIndex(0x8ff));

/// A filter in KVM's form: denies, and so lets exit, exactly what the exit
/// list names, and allows everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvmFilter {
    ranges: Vec<KvmRange>,
}

/// One of the filter's ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmRange {
    /// First MSR.
    pub base: MsrIndex,
    /// Number of MSRs, 1 to [`MAX_MSRS_PER_RANGE`].
    pub count: u32,
    /// The accesses that this range decides.
    pub directions: Directions,
    /// One bit per MSR, lowest first; 1 allows, 0 exits. Padded with ones to 8
    /// bytes, the unit in which the kernel copies.
    bitmap: Vec<u8>,
}

/// Why an exit list does not fit KVM's filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// A claim on MSRs that KVM handles before it looks at the filter.
    #[error(
        "plugin `{plugin}` claims {range}, but KVM never filters the x2APIC MSRs \
         0x800-0x8ff, so they cannot exit; take them out of the plugin's manifest"
    )]
    X2Apic {
        /// The plugin that claims them.
        plugin: Arc<str>,
        /// Its claim.
        range: MsrRange,
    },
    /// More or wider claims than 16 ranges can hold.
    #[error(
        "the MSRs of {} do not fit into KVM's filter of {MAX_RANGES} ranges of at most \
         {MAX_MSRS_PER_RANGE} MSRs: {MAX_RANGES} ranges end before {at}, which plugin `{plugin}` \
         claims with {range}; claim fewer MSRs, or MSRs that lie closer together",
        plugin_list(.plugins)
    )]
    TooScattered {
        /// Every plugin that claims MSRs, by name.
        plugins: BTreeSet<Arc<str>>,
        /// The first MSR, in order of index, that found no place.
        at: MsrIndex,
        /// A plugin that claims it.
        plugin: Arc<str>,
        /// That plugin's claim.
        range: MsrRange,
    },
}

impl PackError {
    /// The plugin and the claim for which there is no place.
    pub fn claim(&self) -> (&Arc<str>, MsrRange) {
        match self {
            PackError::X2Apic { plugin, range } | PackError::TooScattered { plugin, range, .. } => {
                (plugin, *range)
            }
        }
    }

    /// The MSRs of that claim for which there is no place.
    pub fn misfits(&self) -> MsrRange {
        match self {
            PackError::X2Apic { range, .. } => MsrRange::new(X2APIC.0, X2APIC.1)
                .and_then(|x2apic| x2apic.intersection(*range))
                .unwrap_or(*range),
            PackError::TooScattered { range, .. } => *range,
        }
    }
}

impl KvmFilter {
    /// Packs `exits` into the smallest number of KVM ranges.
    ///
    /// # Errors
    /// [`PackError`] where KVM cannot filter a claimed MSR, or where even the
    /// best packing needs more than [`MAX_RANGES`].
    pub fn pack(exits: &ExitList) -> Result<Self, PackError> {
        refuse_x2apic(exits)?;
        let runs = runs::collect(exits);
        let covers = cover::smallest(&runs, MAX_MSRS_PER_RANGE, MAX_RANGES)
            .map_err(|at| too_scattered(exits, at))?;
        // The single-direction ranges are exceptions to the two-way ranges
        // below them: the first match decides.
        let (two_way, one_way): (Vec<_>, Vec<_>) =
            covers.iter().partition(|cover| cover.kind == Kind::Both);
        let ranges = one_way
            .into_iter()
            .chain(two_way)
            .map(|cover| KvmRange::new(cover, &runs, &covers))
            .collect();
        Ok(KvmFilter { ranges })
    }

    /// The ranges, in the order in which KVM looks at them.
    pub fn ranges(&self) -> &[KvmRange] {
        &self.ranges
    }

    /// Whether an access leaves the kernel under this filter.
    pub fn exits(&self, index: MsrIndex, direction: Direction) -> bool {
        self.ranges
            .iter()
            .find(|range| range.directions.contains(direction) && range.covers(index))
            .is_some_and(|range| range.denies(index))
    }

    /// Installs the filter in the place of the VM's present one; every vCPU sees the old
    /// one or the new one. [`enable_msr_exits`](crate::enable_msr_exits) must come before.
    ///
    /// # Errors
    /// [`Refused`] with the kernel's reason.
    pub fn install(&self, vm: &impl AsRawFd) -> Result<(), Refused> {
        let unused = MsrFilterRange { flags: 0, nmsrs: 0, base: 0, bitmap: ptr::null() };
        // Flags 0: what no range names is allowed.
        let mut filter = MsrFilter { flags: 0, ranges: [unused; MAX_RANGES] };
        for (room, range) in filter.ranges.iter_mut().zip(&self.ranges) {
            *room = MsrFilterRange {
                flags: match range.directions {
                    Directions::Read => KVM_MSR_FILTER_READ,
                    Directions::Write => KVM_MSR_FILTER_WRITE,
                    Directions::ReadWrite => KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
                },
                nmsrs: range.count,
                base: range.base.0,
                bitmap: range.bitmap.as_ptr(),
            };
        }
        // SAFETY: the kernel reads one `struct kvm_msr_filter`, and of each of its bitmaps
        // the bits of `nmsrs` MSRs in units of 8 bytes, as `KvmRange` has them.
        let set = unsafe { ioctl::call(vm, KVM_X86_SET_MSR_FILTER, &raw mut filter) };
        match set {
            Ok(_) => Ok(()),
            Err(error) => Err(Refused { step: "install the MSR filter", error }),
        }
    }
}

impl KvmRange {
    fn new(cover: &Cover, runs: &[Run], all: &[Cover]) -> Self {
        let span = cover.last - cover.first;
        let mut range = KvmRange {
            base: MsrIndex(cover.first),
            count: span + 1,
            directions: match cover.kind {
                Kind::Both => Directions::ReadWrite,
                Kind::Read => Directions::Read,
                Kind::Write => Directions::Write,
            },
            // In 8-byte units: a bitmap that ends a page would be EFAULT.
            bitmap: vec![0xff; (span as usize / 64 + 1) * 8],
        };
        for run in runs::within(runs, cover.first, cover.last) {
            for msr in run.first.max(cover.first)..=run.last.min(cover.last) {
                let denies = match cover.kind {
                    Kind::Read => run.kind != Kind::Write,
                    Kind::Write => run.kind != Kind::Read,
                    // Where a range of the claimed direction lies above, this
                    // one decides only the other direction, which is free.
                    Kind::Both => {
                        run.kind == Kind::Both
                            || !all.iter().any(|c| c.kind == run.kind && c.contains(msr))
                    }
                };
                if denies {
                    range.deny(msr);
                }
            }
        }
        range
    }

    /// Number of MSRs of the range that exit.
    pub fn denied(&self) -> usize {
        self.bitmap.iter().map(|byte| byte.count_zeros() as usize).sum()
    }

    /// Highest MSR of the range.
    pub fn last(&self) -> MsrIndex {
        MsrIndex(self.base.0 + (self.count - 1))
    }

    fn covers(&self, index: MsrIndex) -> bool {
        index.0.checked_sub(self.base.0).is_some_and(|offset| offset < self.count)
    }

    fn denies(&self, index: MsrIndex) -> bool {
        let offset = (index.0 - self.base.0) as usize;
        self.bitmap.get(offset / 8).is_some_and(|byte| byte & (1 << (offset % 8)) == 0)
    }

    fn deny(&mut self, msr: u32) {
        let offset = (msr - self.base.0) as usize;
        if let Some(byte) = self.bitmap.get_mut(offset / 8) {
            *byte &= !(1 << (offset % 8));
        }
    }
}

fn refuse_x2apic(exits: &ExitList) -> Result<(), PackError> {
    for claim in &exits.claims {
        if claim.range.first() <= X2APIC.1 && X2APIC.0 <= claim.range.last() {
            return Err(PackError::X2Apic { plugin: claim.plugin.clone(), range: claim.range });
        }
    }
    Ok(())
}

fn too_scattered(exits: &ExitList, at: u32) -> PackError {
    let at = MsrIndex(at);
    let (plugin, range) = exits
        .claims
        .iter()
        .find(|claim| claim.range.contains(at))
        .map_or_else(|| (Arc::from("?"), at.into()), |claim| (claim.plugin.clone(), claim.range));
    let plugins = exits.claims.iter().map(|claim| claim.plugin.clone()).collect();
    PackError::TooScattered { plugins, at, plugin, range }
}

fn plugin_list(plugins: &BTreeSet<Arc<str>>) -> String {
    let names: Vec<String> = plugins.iter().map(|name| format!("`{name}`")).collect();
    let word = if names.len() == 1 { "plugin" } else { "plugins" };
    format!("{word} {}", names.join(", "))
}

#[cfg(test)]
mod tests;
