//! The reference TSC page: TLFS, "Partition Reference Time Enlightenment".

use serde::{Deserialize, Serialize};
use wasmsr_sdk::log;
use wasmsr_sdk::memory::{self, GuestAddress, OutsideMemory};

use crate::line::Line;
use crate::page::{self, PageRegister};

/// Offset of `TscScale` in `HV_REFERENCE_TSC_PAGE`, with `TscOffset` behind it.
const SCALE: u64 = 8;

/// `TscSequence` of a page that must not be used: guests read the MSR.
const INVALID: u32 = 0;

/// The page and its register, `HV_X64_MSR_REFERENCE_TSC`.
///
/// A guest that reads the page takes `TscSequence`, counter, scale and offset,
/// and starts again if the sequence has changed meanwhile; if it is 0, the guest
/// reads the MSR. So a new line is put there in three steps:
/// [`hide`](Self::hide) the old one, take the moment at which the new one
/// begins, and [`show`](Self::show) it. A guest that finishes with the old line
/// has read the counter before that moment, one with the new line reads it
/// after, and the MSR is read under the lock that this update holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct TscPage {
    register: PageRegister,
    /// The last sequence number that was shown. It only grows: a line with the
    /// number of an earlier one could be mistaken for it.
    sequence: u32,
}

impl TscPage {
    pub(crate) fn register(&self) -> u64 {
        self.register.value()
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.register.enabled_at().is_some()
    }

    /// Takes a write of the register; no line is shown after it. A page that is
    /// not guest RAM is accepted too and "will not be accessible to the guest"
    /// ("Reference Time Stamp Counter (TSC) Page MSR").
    pub(crate) fn write(&mut self, value: u64) {
        self.hide();
        self.register = PageRegister::written(value);
        let Some(at) = self.register.enabled_at() else { return };
        if page::fill(at, &[], 0).is_err() {
            log::warn!("the guest's reference TSC page {at} is not RAM, so there is none");
        }
    }

    /// Sends readers of the page to the MSR. Returns whether there is a page.
    pub(crate) fn hide(&self) -> bool {
        let at = self.register.enabled_at();
        at.is_some_and(|at| memory::write_value(at, INVALID).is_ok())
    }

    /// Shows a line in a hidden page.
    pub(crate) fn show(&mut self, line: Line) {
        let Some(at) = self.register.enabled_at() else { return };
        self.sequence = match self.sequence.wrapping_add(1) {
            // Editions of the TLFS up to 4.0b call 0xffffffff invalid.
            INVALID | u32::MAX => 1,
            next => next,
        };
        // Without RAM there is no page to write to.
        let _: Result<(), OutsideMemory> = memory::write(GuestAddress(at.0 | SCALE), &line.bytes())
            .and_then(|()| memory::write_value(at, self.sequence));
    }

    /// The state after a reset. The page is not written: its memory no longer
    /// belongs to the old guest.
    pub(crate) fn reset(&mut self) {
        self.register = PageRegister::default();
    }

    /// Whether a guest's writes can have led to this register.
    pub(crate) fn is_reachable(&self) -> bool {
        self.register.is_reachable()
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::Host;

    use super::*;

    #[test]
    fn the_sequence_passes_what_is_no_sequence() {
        let host = Host::fresh();
        host.set_memory(GuestAddress(0), &[0; page::PAGE_SIZE]);
        let line = Line::through(0, 0, 1 << 36).unwrap();
        for (last, next) in [(0, 1), (1, 2), (u32::MAX - 2, u32::MAX - 1), (u32::MAX - 1, 1)] {
            let mut page = TscPage { register: PageRegister::written(1), sequence: last };
            page.show(line);
            assert_eq!(memory::read_value(GuestAddress(0)), Ok(next), "after {last}");
        }
    }

    #[test]
    fn without_memory_nothing_is_shown() {
        let host = Host::fresh();
        host.set_memory(GuestAddress(0), &[0x55; page::PAGE_SIZE]);
        for value in [0, 0x1001, u64::MAX] {
            let mut page = TscPage::default();
            page.write(value);
            assert!(!page.hide());
            page.show(Line::through(0, 0, 1 << 36).unwrap());
            assert_eq!(host.memory(GuestAddress(0), 24).unwrap(), [0x55; 24], "{value:#x}");
        }
    }
}
