//! One access of a guest to an MSR, and the answers that are not a value.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Number of an MSR: the guest's ECX. In a configuration, a number, or a text such as
/// `"0x10a"` or `"IA32_ARCH_CAPABILITIES"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct MsrIndex(pub u32);

impl MsrIndex {
    /// The name that the manuals or else the kernel give it: the one that the host shows too.
    /// A plugin that asks carries the names of all MSRs, some 80 KB.
    pub fn name(self) -> Option<&'static str> {
        wasmsr_msrs::name(self.0)
    }

    /// Number and name, for people: `0x10a (IA32_ARCH_CAPABILITIES)`.
    pub fn described(self) -> impl fmt::Display {
        struct Described(MsrIndex);
        impl fmt::Display for Described {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0.name() {
                    Some(name) => write!(f, "{} ({name})", self.0),
                    None => self.0.fmt(f),
                }
            }
        }
        Described(self)
    }
}

impl fmt::Display for MsrIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Consecutive MSRs, both ends included. In a configuration, a number or a text
/// such as `"0x10a"`, `"0xc0010200-0xc001020b"` or `"IA32_MC0_CTL-IA32_MC3_MISC"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MsrRange {
    /// Lowest MSR.
    pub first: MsrIndex,
    /// Highest MSR, not below `first`.
    pub last: MsrIndex,
}

impl MsrRange {
    /// Whether the MSR is one of these.
    pub fn contains(self, msr: MsrIndex) -> bool {
        (self.first..=self.last).contains(&msr)
    }
}

impl fmt::Display for MsrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Number of a virtual CPU, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VcpuId(pub u32);

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}", self.0)
    }
}

/// Why the access left the kernel. The numbers are KVM's (`KVM_MSR_EXIT_REASON_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// KVM knows the MSR and refuses this access or value.
    Invalid = 1,
    /// KVM does not know the MSR.
    Unknown = 2,
    /// The MSR filter denies the access: the manifest names this MSR.
    Filter = 4,
}

impl Reason {
    pub(crate) fn from_abi(number: u32) -> Self {
        match number {
            1 => Reason::Invalid,
            2 => Reason::Unknown,
            _ => Reason::Filter,
        }
    }
}

/// One `rdmsr` or `wrmsr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Which MSR.
    pub index: MsrIndex,
    /// Which vCPU executes the instruction, in a plugin for the whole VM too.
    pub vcpu: VcpuId,
    /// Why the access left the kernel.
    pub reason: Reason,
}

impl Access {
    /// An access as the host reports it; plugins need this only in tests.
    pub const fn new(index: MsrIndex, vcpu: VcpuId, reason: Reason) -> Self {
        Access { index, vcpu, reason }
    }
}

/// The outcome of an access that the plugin does not answer itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Otherwise {
    /// `fault`: #GP(0) in the guest, as hardware does for an MSR that it does
    /// not have or a value that it does not accept.
    Fault = 1,
    /// `pass`: the next plugin that claims the MSR is asked, and after the last
    /// one the profile's policy decides.
    Pass = 2,
    /// `kernel`: KVM's own answer for this vCPU, #GP(0) if it has none.
    Kernel = 3,
}
