//! One access of a guest to an MSR, as an owned value.

use std::fmt;

use crate::index::MsrIndex;

/// Number of a virtual CPU, counted from 0 in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VcpuId(pub u32);

/// The most vCPUs of a VM: xAPIC ids are 8 bits wide, and 0xff is the broadcast.
pub const MAX_VCPUS: u32 = 255;

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}", self.0)
    }
}

/// Which instruction the guest executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// `rdmsr`
    Read,
    /// `wrmsr`
    Write,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Direction::Read => "read",
            Direction::Write => "write",
        })
    }
}

/// A set of directions: what a manifest writes as `r`, `w` or `rw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Directions {
    /// Reads only.
    #[cfg_attr(feature = "serde", serde(rename = "r"))]
    Read,
    /// Writes only.
    #[cfg_attr(feature = "serde", serde(rename = "w"))]
    Write,
    /// Reads and writes.
    #[cfg_attr(feature = "serde", serde(rename = "rw"))]
    ReadWrite,
}

impl Directions {
    /// Whether the set holds `direction`.
    pub fn contains(self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self != Directions::Write,
            Direction::Write => self != Directions::Read,
        }
    }

    /// The directions that both sets hold; `None` if there are none.
    pub fn intersection(self, other: Directions) -> Option<Directions> {
        match (self, other) {
            (Directions::ReadWrite, directions) | (directions, Directions::ReadWrite) => {
                Some(directions)
            }
            _ => (self == other).then_some(self),
        }
    }
}

impl fmt::Display for Directions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Directions::Read => "r",
            Directions::Write => "w",
            Directions::ReadWrite => "rw",
        })
    }
}

/// Why the access left the kernel; the numbers are KVM's and the ABI's
/// (`KVM_MSR_EXIT_REASON_*`, KVM api section 5, `KVM_EXIT_X86_RDMSR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Reason {
    /// KVM knows the MSR and refuses this access or value.
    Invalid = 1,
    /// KVM does not know the MSR.
    Unknown = 2,
    /// The MSR filter denies the access.
    Filter = 4,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Invalid => "invalid",
            Reason::Unknown => "unknown",
            Reason::Filter => "filter",
        })
    }
}

/// One `rdmsr` or `wrmsr`, with all that the kernel tells about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsrAccess {
    /// The guest's ECX.
    pub index: MsrIndex,
    /// Read, or write with its value.
    pub op: MsrOp,
    /// Why it left the kernel.
    pub reason: Reason,
}

impl MsrAccess {
    /// Instruction, MSR and value, for people: `read of 0x10 (IA32_TIME_STAMP_COUNTER)`,
    /// `write of 0x391 with 0x2000000f`.
    pub fn described(self) -> impl fmt::Display {
        struct Described(MsrAccess);
        impl fmt::Display for Described {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let MsrAccess { index, op, .. } = self.0;
                write!(f, "{} of {}", op.direction(), index.described())?;
                match op {
                    MsrOp::Read => Ok(()),
                    MsrOp::Write(value) => write!(f, " with {value:#x}"),
                }
            }
        }
        Described(self)
    }
}

/// What the guest asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MsrOp {
    /// `rdmsr`
    Read,
    /// `wrmsr` with the guest's EDX:EAX.
    Write(u64),
}

impl MsrOp {
    /// The direction alone.
    pub fn direction(self) -> Direction {
        match self {
            MsrOp::Read => Direction::Read,
            MsrOp::Write(_) => Direction::Write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_described_with_its_value() {
        let described = |op| {
            let access = MsrAccess { index: MsrIndex(0x4000_fff0), op, reason: Reason::Unknown };
            access.described().to_string()
        };
        assert_eq!(described(MsrOp::Read), "read of 0x4000fff0");
        assert_eq!(described(MsrOp::Write(0x2000_000f)), "write of 0x4000fff0 with 0x2000000f");
    }
}
