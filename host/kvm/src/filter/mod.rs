//! The MSR filter: from what must exit to KVM's ranges and bitmaps.
//!
//! KVM takes at most 16 ranges, each of at most 0x600 bytes of bitmap, and the
//! first range that matches index and direction decides
//! (`KVM_X86_SET_MSR_FILTER`, KVM api section 4.97).
#![expect(unsafe_code, reason = "an ioctl")]

mod cover;
mod error;
mod limits;
mod range;
mod runs;

use std::os::fd::AsRawFd;
use std::ptr;

pub use error::PackError;
pub use limits::{MAX_MSRS_PER_RANGE, MAX_RANGES, highest, x2apic};
pub use range::KvmRange;
use wasmsr_interface::{Direction, Directions, ExitList, MsrIndex, Unclaimed};

use crate::ioctl;
use crate::refused::Refused;
use crate::uapi::{
    KVM_MSR_FILTER_DEFAULT_DENY, KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE, KVM_X86_SET_MSR_FILTER,
    MsrFilter, MsrFilterRange,
};
use range::Unmatched;
use runs::Kind;

/// A filter in KVM's form: denies, and so lets exit, exactly what the exit
/// list names, and allows everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KvmFilter {
    ranges: Vec<KvmRange>,
    unmatched: Unmatched,
}

impl KvmFilter {
    /// Packs `exits` into the smallest number of KVM ranges.
    ///
    /// # Errors
    /// [`PackError`] where KVM cannot filter a claimed MSR, or where even the
    /// best packing needs more than [`MAX_RANGES`].
    pub fn pack(exits: &ExitList) -> Result<Self, PackError> {
        Self::pack_all(exits).map_err(|mut errors| errors.swap_remove(0))
    }

    /// As [`pack`](Self::pack), with everything that is wrong.
    ///
    /// # Errors
    /// At least one [`PackError`].
    pub fn pack_all(exits: &ExitList) -> Result<Self, Vec<PackError>> {
        let impossible = error::impossible(exits);
        if !impossible.is_empty() {
            return Err(impossible);
        }
        let unmatched = match exits.unclaimed {
            Unclaimed::Kernel => Unmatched::Allowed,
            Unclaimed::Exit(_) => Unmatched::Denied,
        };
        let runs = runs::collect(exits);
        let covers = cover::smallest(&runs, MAX_MSRS_PER_RANGE, MAX_RANGES)
            .map_err(|at| vec![error::too_scattered(exits, at)])?;
        // The single-direction ranges are exceptions to the two-way ranges
        // below them: the first match decides.
        let (two_way, one_way): (Vec<_>, Vec<_>) =
            covers.iter().partition(|cover| cover.kind == Kind::Both);
        let mut ranges: Vec<KvmRange> = one_way
            .into_iter()
            .chain(two_way)
            .map(|cover| KvmRange::new(cover, &runs, &covers, unmatched))
            .collect();
        if ranges.is_empty() && unmatched == Unmatched::Denied {
            // KVM refuses a filter that denies everything without any range.
            ranges.push(KvmRange::plain(0, 0, Directions::ReadWrite, unmatched));
        }
        Ok(KvmFilter { ranges, unmatched })
    }

    /// The ranges, in the order in which KVM looks at them.
    pub fn ranges(&self) -> &[KvmRange] {
        &self.ranges
    }

    /// Whether what is in no range exits.
    pub fn denies_by_default(&self) -> bool {
        self.unmatched == Unmatched::Denied
    }

    /// Whether an access leaves the kernel under this filter.
    pub fn exits(&self, index: MsrIndex, direction: Direction) -> bool {
        if x2apic().contains(index) {
            return false;
        }
        self.ranges
            .iter()
            .find(|range| range.directions.contains(direction) && range.covers(index))
            .map_or(self.denies_by_default(), |range| range.denies(index))
    }

    /// Installs the filter in the place of the VM's present one; every vCPU sees the old
    /// one or the new one. [`enable_msr_exits`](crate::enable_msr_exits) must come before.
    ///
    /// # Errors
    /// [`Refused`] with the kernel's reason.
    pub fn install(&self, vm: &impl AsRawFd) -> Result<(), Refused> {
        let unused = MsrFilterRange { flags: 0, nmsrs: 0, base: 0, bitmap: ptr::null() };
        let flags = match self.unmatched {
            Unmatched::Allowed => 0,
            Unmatched::Denied => KVM_MSR_FILTER_DEFAULT_DENY,
        };
        let mut filter = MsrFilter { flags, ranges: [unused; MAX_RANGES] };
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

#[cfg(test)]
mod tests;
