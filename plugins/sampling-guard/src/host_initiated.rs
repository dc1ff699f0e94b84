//! MSRs for which a write by the VMM (`KVM_SET_MSRS`, KVM api 4.19) differs from
//! the guest's own write: the cases of `host_initiated` in the kernel's
//! `kvm_set_msr_common`, `set_efer`, `kvm_apic_set_base`, `set_msr_mce`,
//! `kvm_pmu_set_msr` and `intel_pmu_set_msr` (arch/x86/kvm).

use core::ops::RangeInclusive;

use wasmsr_sdk::MsrIndex;

/// The difference for an MSR; `None` if none is known.
pub(crate) fn difference(msr: MsrIndex) -> Option<&'static str> {
    DIFFERENCES.iter().find(|(msrs, _)| msrs.contains(&msr.0)).map(|(_, what)| *what)
}

const READ_ONLY: &str = "KVM would refuse or ignore it from a guest, but takes it from the VMM";

const DIFFERENCES: &[(RangeInclusive<u32>, &str)] = &[
    (0x10..=0x10, "the guest's clock is set by KVM's rules for a restored VM"),
    (0x1b..=0x1b, "KVM does not check the change of the APIC's mode"),
    (0x34..=0x34, READ_ONLY),
    (0x3a..=0x3a, "KVM does not respect the lock bit"),
    (0x3b..=0x3b, "the guest's clock does not follow"),
    (0x8b..=0x8b, READ_ONLY),
    (0x9e..=0x9e, READ_ONLY),
    // IA32_PMC0 to IA32_PMC7 by their old numbers.
    (0xc1..=0xc8, "KVM does not extend the sign of 32 bits, so counters overflow late"),
    (0x10a..=0x10a, READ_ONLY),
    (0x1a0..=0x1a0, "KVM lets the read-only bits 7, 11 and 12 change"),
    (0x345..=0x345, READ_ONLY),
    (0x38e..=0x38e, READ_ONLY),
    (0x390..=0x390, "it clears nothing in IA32_PERF_GLOBAL_STATUS"),
    // IA32_MC0_CTL to IA32_MC31_MISC.
    (0x400..=0x47f, "KVM takes values of IA32_MCi_STATUS other than 0"),
    (0x480..=0x491, READ_ONLY),
    (0xc000_0080..=0xc000_0080, "KVM checks it against neither paging nor the guest's CPUID"),
    (0xc000_0300..=0xc000_0300, READ_ONLY),
    (0xc000_0302..=0xc000_0302, "it clears nothing in PERF_CNTR_GLOBAL_STATUS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guarded_examples_are_the_same_to_kvm_and_clocks_are_not() {
        for msr in [0x48, 0x49, 0x10b, 0x186, 0x189, 0x38f, 0x4c1] {
            assert_eq!(difference(MsrIndex(msr)), None, "{msr:#x}");
        }
        for msr in [0x10, 0x3b, 0xc8, 0x390, 0xc000_0080] {
            assert!(difference(MsrIndex(msr)).is_some(), "{msr:#x}");
        }
    }

    #[test]
    fn ranges_are_sorted_and_apart() {
        assert!(DIFFERENCES.is_sorted_by(|(a, _), (b, _)| a.end() < b.start()));
    }
}
