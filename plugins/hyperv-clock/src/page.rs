//! Registers with which a guest places one of the hypervisor's pages.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::memory::{self, GuestAddress, OutsideMemory};

/// Bytes of a page.
pub(crate) const PAGE_SIZE: usize = 4096;

const ENABLE: u64 = 1 << 0;
const PAGE_NUMBER: u64 = !0xfff;

/// Bit 0 enables the page, bits 63:12 are its number. Bits 11:1 are RsvdP: they
/// have no meaning and guests preserve them; here they stay 0 whatever a guest
/// writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PageRegister(u64);

impl PageRegister {
    /// The register after this value was written to it.
    pub(crate) fn written(value: u64) -> PageRegister {
        PageRegister(value & (PAGE_NUMBER | ENABLE))
    }

    pub(crate) fn value(self) -> u64 {
        self.0
    }

    /// The address of the page, if it is enabled.
    pub(crate) fn enabled_at(self) -> Option<GuestAddress> {
        (self.0 & ENABLE != 0).then_some(GuestAddress(self.0 & PAGE_NUMBER))
    }

    pub(crate) fn disabled(self) -> PageRegister {
        PageRegister(self.0 & !ENABLE)
    }

    /// Whether a guest's writes can have led to this register.
    pub(crate) fn is_reachable(self) -> bool {
        self == PageRegister::written(self.0)
    }
}

/// Puts `head` at the beginning of a page, and `rest` into each byte after it.
/// Writes nothing unless the whole page is guest RAM.
pub(crate) fn fill(at: GuestAddress, head: &[u8], rest: u8) -> Result<(), OutsideMemory> {
    let mut page = [rest; PAGE_SIZE];
    for (to, from) in page.iter_mut().zip(head) {
        *to = *from;
    }
    memory::write(at, &page)
}
