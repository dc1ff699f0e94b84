//! One range of the filter, in KVM's form.

use wasmsr_interface::{Directions, MsrIndex};

use super::cover::Cover;
use super::runs::{self, Kind, Run};

/// One of the filter's ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvmRange {
    /// First MSR.
    pub base: MsrIndex,
    /// Number of MSRs, 1 to [`MAX_MSRS_PER_RANGE`](super::MAX_MSRS_PER_RANGE).
    pub count: u32,
    /// The accesses that this range decides.
    pub directions: Directions,
    /// One bit per MSR, lowest first; 1 allows, 0 exits. Padded with ones to 8
    /// bytes, the unit in which the kernel copies.
    pub(super) bitmap: Vec<u8>,
}

/// What the filter does with an access that no range decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Unmatched {
    /// It stays in the kernel.
    #[default]
    Allowed,
    /// It exits.
    Denied,
}

impl KvmRange {
    /// A range for the exceptions in `runs` that `cover` decides.
    pub(super) fn new(cover: &Cover, runs: &[Run], all: &[Cover], unmatched: Unmatched) -> Self {
        let directions = match cover.kind {
            Kind::Both => Directions::ReadWrite,
            Kind::Read => Directions::Read,
            Kind::Write => Directions::Write,
        };
        let mut range = KvmRange::plain(cover.first, cover.last, directions, unmatched);
        for run in runs::within(runs, cover.first, cover.last) {
            for msr in run.first.max(cover.first)..=run.last.min(cover.last) {
                let is_exception = match cover.kind {
                    Kind::Read => run.kind != Kind::Write,
                    Kind::Write => run.kind != Kind::Read,
                    // Where a range of the exception's direction lies above, this
                    // one decides only the other direction, which is none.
                    Kind::Both => {
                        run.kind == Kind::Both
                            || !all.iter().any(|c| c.kind == run.kind && c.contains(msr))
                    }
                };
                if is_exception {
                    range.flip(msr);
                }
            }
        }
        range
    }

    /// A range that decides as the filter does without it.
    pub(super) fn plain(
        first: u32,
        last: u32,
        directions: Directions,
        unmatched: Unmatched,
    ) -> Self {
        let span = last - first;
        // In 8-byte units: a bitmap that ends a page would be EFAULT.
        let bitmap = vec![0xff; (span as usize / 64 + 1) * 8];
        let mut range = KvmRange { base: MsrIndex(first), count: span + 1, directions, bitmap };
        if unmatched == Unmatched::Denied {
            (first..=last).for_each(|msr| range.flip(msr));
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

    /// Whether KVM finds `index` in the range. It computes the end in 32 bits, so that a
    /// range with MSR 0xffffffff would end at 0 and match nothing (`kvm_msr_allowed` in
    /// Linux' arch/x86/kvm/x86.c).
    pub(super) fn covers(&self, index: MsrIndex) -> bool {
        let end = self.base.0.wrapping_add(self.count);
        (self.base.0..end).contains(&index.0)
    }

    pub(super) fn denies(&self, index: MsrIndex) -> bool {
        let offset = index.0.wrapping_sub(self.base.0) as usize;
        self.bitmap.get(offset / 8).is_some_and(|byte| byte & (1 << (offset % 8)) == 0)
    }

    fn flip(&mut self, msr: u32) {
        let offset = (msr - self.base.0) as usize;
        if let Some(byte) = self.bitmap.get_mut(offset / 8) {
            *byte ^= 1 << (offset % 8);
        }
    }
}
