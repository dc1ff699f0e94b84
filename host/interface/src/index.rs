//! An MSR's number, and the name that the manuals or the kernel give it.

use std::fmt;

/// Number of an MSR: the guest's ECX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MsrIndex(pub u32);

impl MsrIndex {
    /// The name in the SDM (volume 4), in AMD's APM (volume 2, appendix A),
    /// the TLFS, or else in the kernel's `msr-index.h` and `kvm_para.h`.
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
                    None => write!(f, "{}", self.0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_msr_is_printed_in_hex_with_its_name() {
        assert_eq!(MsrIndex(0x10a).described().to_string(), "0x10a (IA32_ARCH_CAPABILITIES)");
        assert_eq!(MsrIndex(0xdead_beef).described().to_string(), "0xdeadbeef");
    }
}
