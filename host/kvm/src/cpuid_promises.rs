//! CPUID bits that plugins or the profile set beyond what KVM supports. Some only announce
//! an MSR, which a plugin answers; others promise what neither KVM nor a plugin provides.

use std::fmt;
use std::sync::Arc;

use wasmsr_interface::CpuidChange;

use crate::uapi::CpuidEntry;

/// A bit that the guest reads as 1 although KVM cannot give what it promises. Its text is
/// a warning for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmptyPromise {
    plugins: Vec<Arc<str>>,
    leaf: u32,
    subleaf: u32,
    register: Register,
    bit: u32,
}

/// The promises among `changes` that `supported` does not cover.
pub fn empty_promises(supported: &[CpuidEntry], changes: &[CpuidChange]) -> Vec<EmptyPromise> {
    let mut empty = Vec::new();
    for &(leaf, subleaf, register, announces) in FEATURES {
        let asked = changes.iter().filter(|c| c.leaf == leaf && c.subleaf == subleaf);
        let mut named = 0;
        for change in asked {
            let set = match register {
                Register::Eax => change.eax.set,
                Register::Ebx => change.ebx.set,
                Register::Ecx => change.ecx.set,
                Register::Edx => change.edx.set,
            };
            // A bit that several ask for is warned of once.
            let missing = set & !announces & !value(supported, leaf, subleaf, register) & !named;
            named |= missing;
            let bits = (0..u32::BITS).filter(|bit| missing & (1 << bit) != 0);
            empty.extend(bits.map(|bit| EmptyPromise {
                plugins: change.plugins.clone(),
                leaf,
                subleaf,
                register,
                bit,
            }));
        }
    }
    empty
}

impl fmt::Display for EmptyPromise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.plugins.as_slice() {
            [] => f.write_str("the profile")?,
            plugins => write!(f, "plugin {}", plugins.join(", "))?,
        }
        write!(
            f,
            " sets CPUID leaf {:#x}, subleaf {:#x}, {} bit {} for the guest, which KVM does not \
             support on this host; a guest that relies on it may fail, so take the bit out of the \
             {} unless {} provides what it promises",
            self.leaf,
            self.subleaf,
            self.register,
            self.bit,
            if self.plugins.is_empty() { "profile" } else { "manifest" },
            if self.plugins.is_empty() { "a plugin" } else { "the plugin" },
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Register::Eax => "eax",
            Register::Ebx => "ebx",
            Register::Ecx => "ecx",
            Register::Edx => "edx",
        })
    }
}

/// The registers of feature bits (SDM volume 2, CPUID; APM volume 3, appendix
/// E), each with the bits that only announce MSRs. What other leaves say is
/// information, or, from 0x40000000, a hypervisor's own.
const FEATURES: &[(u32, u32, Register, u32)] = &[
    // EIST, TM2, PDCM, and the bit of every hypervisor.
    (0x1, 0, Register::Ecx, 1 << 7 | 1 << 8 | 1 << 15 | 1 << 31),
    // MSR, MCE, MTRR, MCA, ACPI, TM.
    (0x1, 0, Register::Edx, 1 << 5 | 1 << 7 | 1 << 12 | 1 << 14 | 1 << 22 | 1 << 29),
    // IA32_TSC_ADJUST.
    (0x7, 0, Register::Ebx, 1 << 1),
    (0x7, 0, Register::Ecx, 0),
    // IBRS, STIBP, L1D_FLUSH, ARCH_CAPABILITIES, CORE_CAPABILITIES, SSBD.
    (0x7, 0, Register::Edx, 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 31),
    (0x7, 1, Register::Eax, 0),
    (0x7, 1, Register::Edx, 0),
    // Controls in IA32_SPEC_CTRL.
    (0x7, 2, Register::Edx, u32::MAX),
    // State components, for XSAVE and XSAVES.
    (0xd, 0, Register::Eax, 0),
    (0xd, 0, Register::Edx, 0),
    (0xd, 1, Register::Eax, 0),
    (0xd, 1, Register::Ecx, 0),
    // OSVW, IBS, WDT, NodeId, PTSC.
    (0x8000_0001, 0, Register::Ecx, 1 << 9 | 1 << 10 | 1 << 13 | 1 << 19 | 1 << 27),
    (0x8000_0001, 0, Register::Edx, 0),
    // IBPB, IBRS, STIBP, and the SSBD bits.
    (0x8000_0008, 0, Register::Ebx, 1 << 12 | 1 << 14 | 1 << 15 | 1 << 24 | 1 << 25 | 1 << 26),
];

fn value(entries: &[CpuidEntry], leaf: u32, subleaf: u32, register: Register) -> u32 {
    let found = entries.iter().find(|entry| entry.answers(leaf, subleaf));
    found.map_or(0, |entry| match register {
        Register::Eax => entry.eax,
        Register::Ebx => entry.ebx,
        Register::Ecx => entry.ecx,
        Register::Edx => entry.edx,
    })
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::RegisterChange;

    use super::*;

    fn asked(leaf: u32, edx: u32) -> CpuidChange {
        let [eax, ebx, ecx] = [RegisterChange::default(); 3];
        let edx = RegisterChange { set: edx, clear: 0 };
        CpuidChange { leaf, subleaf: 0, eax, ebx, ecx, edx, plugins: vec!["p".into()] }
    }

    #[test]
    fn a_bit_that_announces_an_msr_is_the_plugins_own() {
        assert_eq!(empty_promises(&[], &[asked(0x7, 1 << 29)]), []);
    }

    #[test]
    fn a_bit_that_kvm_supports_is_not_an_empty_promise() {
        let supported = CpuidEntry { function: 0x7, flags: 1, edx: 1 << 4, ..<_>::default() };
        assert_eq!(empty_promises(&[supported], &[asked(0x7, 1 << 4)]), []);
    }

    #[test]
    fn a_hypervisors_leaves_promise_nothing_of_the_processor() {
        assert_eq!(empty_promises(&[], &[asked(0x4000_0003, u32::MAX)]), []);
    }

    #[test]
    fn the_profiles_promise_is_its_own() {
        let profile = CpuidChange { plugins: Vec::new(), ..asked(0x7, 1 << 4 | 1 << 5) };
        let empty = empty_promises(&[], &[asked(0x7, 1 << 4), profile]);
        assert_eq!(empty.len(), 2);
        let text = empty[1].to_string();
        for part in ["the profile sets", "edx bit 5", "out of the profile"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn an_empty_promise_is_named() {
        let empty = empty_promises(&[], &[asked(0x7, 1 << 4 | 1 << 29)]);
        assert_eq!(empty.len(), 1);
        let text = empty[0].to_string();
        for part in ["plugin p", "leaf 0x7, subleaf 0x0, edx bit 4"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
