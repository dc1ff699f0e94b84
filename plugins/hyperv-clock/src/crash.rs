//! Crash reports: TLFS, "Partition Crash Enlightenment".

use serde::{Deserialize, Serialize};
use wasmsr_sdk::log;
use wasmsr_sdk::memory::{self, GuestAddress};

use crate::page::PAGE_SIZE;

/// `HV_CRASH_CTL_REG_CONTENTS`: P3 and P4 are address and length of a message.
const CRASH_MESSAGE: u64 = 1 << 62;
/// The parameters are complete.
const CRASH_NOTIFY: u64 = 1 << 63;

/// The value of every read of `HV_X64_MSR_CRASH_CTL`, whatever was written: the
/// supported actions.
pub(crate) const CAPABILITIES: u64 = CRASH_MESSAGE | CRASH_NOTIFY;

/// Bytes of a message in one line of the log, which is cut after 1024 bytes.
const PIECE: usize = 1000;

/// `HV_X64_MSR_CRASH_P0` to `HV_X64_MSR_CRASH_P4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Crash([u64; 5]);

impl Crash {
    /// The parameter of this number, if there is one.
    pub(crate) fn parameter(&mut self, number: u32) -> Option<&mut u64> {
        self.0.get_mut(usize::try_from(number).ok()?)
    }

    /// Takes a write of `HV_X64_MSR_CRASH_CTL`. Only "CrashNotify by itself,
    /// and CrashMessage in combination with CrashNotify" do something.
    pub(crate) fn control(&self, value: u64) {
        if value & CRASH_NOTIFY == 0 {
            return;
        }
        let [p0, p1, p2, p3, p4] = self.0;
        log::warn!(
            "the guest reports a crash: P0 {p0:#x} P1 {p1:#x} P2 {p2:#x} P3 {p3:#x} P4 {p4:#x}"
        );
        if value & CRASH_MESSAGE != 0 {
            log_message(GuestAddress(p3), p4);
        }
    }
}

/// The fuel of one access must be enough for any page of text: each step takes a
/// few instructions for each byte, or for each eight of them.
fn log_message(at: GuestAddress, len: u64) {
    let mut page = [0; PAGE_SIZE];
    let len = usize::try_from(len).map_or(PAGE_SIZE, |len| len.min(PAGE_SIZE));
    let read = page.get_mut(..len).map(|message| memory::read(at, message));
    if read != Some(Ok(())) {
        return log::warn!("its message of {len} bytes at {at} is not in RAM");
    }
    make_printable(&mut page);
    let message = page.get(..len).unwrap_or_default();
    for piece in message.chunks(PIECE).filter_map(|piece| str::from_utf8(piece).ok()) {
        log::warn!("crash: {piece}");
    }
}

/// Replaces everything that is not printable ASCII by a `|`, above all line
/// ends: the high bit of each byte of a word says what that byte is.
fn make_printable(page: &mut [u8; PAGE_SIZE]) {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = EACH * 0x80;
    const REPLACEMENT: u64 = EACH * b'|' as u64;

    for bytes in page.as_chunks_mut().0 {
        let word = u64::from_le_bytes(*bytes);
        let low = word & !HIGH;
        let (from_space, is_delete) = (low + EACH * 0x60, low + EACH);
        let is_printable = from_space & !is_delete & !word & HIGH;
        let kept = (is_printable >> 7) * 0xff;
        let replaced = (word ^ REPLACEMENT) & !kept;
        *bytes = (word ^ replaced).to_le_bytes();
    }
}

#[cfg(test)]
mod tests;
