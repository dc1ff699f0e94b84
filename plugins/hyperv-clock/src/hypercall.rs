//! Guest OS identity and hypercall page: TLFS, "Hypercall Interface".

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Otherwise, log};

use crate::page::{self, PageRegister};

/// The code of the hypercall page. No hypercall is offered, so each returns
/// `HV_STATUS_INVALID_HYPERCALL_CODE` (2), without an exit.
///
/// By "Volatile Registers" the result is in RAX for a 64-bit caller, whose RDX
/// stays unchanged, and in EDX:EAX for a 32-bit one. 0x40 distinguishes them: it
/// is `inc eax` for the latter, a prefix of the `nop` for the former.
const INVALID_HYPERCALL_CODE: [u8; 14] = [
    0x31, 0xc0, // xor eax, eax
    0x40, 0x90, // inc eax; nop
    0x74, 0x02, // jz: 64-bit only
    0x31, 0xd2, // xor edx, edx
    0xb8, 0x02, 0x00, 0x00, 0x00, // mov eax, 2
    0xc3, // ret
];

/// `int3`, for callers that jump past the beginning of the page.
const INT3: u8 = 0xcc;

const LOCKED: u64 = 1 << 1;

/// `HV_X64_MSR_GUEST_OS_ID` and `HV_X64_MSR_HYPERCALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct HypercallInterface {
    guest_os_id: u64,
    page: PageRegister,
    locked: bool,
}

impl HypercallInterface {
    pub(crate) fn guest_os_id(&self) -> u64 {
        self.guest_os_id
    }

    /// "If this register is subsequently zeroed, the hypercall code page will
    /// be disabled" ("Reporting the Guest OS Identity"), locked or not: the
    /// lock is against relocation.
    pub(crate) fn set_guest_os_id(&mut self, id: u64) {
        self.guest_os_id = id;
        if id == 0 {
            self.page = self.page.disabled();
        }
    }

    pub(crate) fn register(&self) -> u64 {
        self.page.value() | if self.locked { LOCKED } else { 0 }
    }

    /// Takes a write of the register, by "Establishing the Hypercall
    /// Interface":
    ///
    /// - once locked, only a reset changes it;
    /// - while no guest OS identity is given, "the enable bit will remain zero
    ///   even if a one is written to it";
    /// - a page beyond the guest's memory is a #GP, and nothing changes.
    pub(crate) fn write(&mut self, value: u64) -> Result<(), Otherwise> {
        if self.locked {
            return Err(Otherwise::Fault);
        }
        let mut page = PageRegister::written(value);
        if self.guest_os_id == 0 {
            page = page.disabled();
        }
        if let Some(at) = page.enabled_at() {
            page::fill(at, &INVALID_HYPERCALL_CODE, INT3)
                .inspect_err(|_| log::warn!("the guest's hypercall page {at} is not RAM"))?;
        }
        self.page = page;
        self.locked = value & LOCKED != 0;
        Ok(())
    }

    /// Whether a guest's writes can have led to these registers.
    pub(crate) fn is_reachable(&self) -> bool {
        let enabled = self.page.enabled_at().is_some();
        self.page.is_reachable() && (self.guest_os_id != 0 || !enabled)
    }
}

#[cfg(test)]
mod tests;
