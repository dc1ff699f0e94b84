//! An MSR's number, and the name that the manuals or the kernel give it.

use std::fmt;

/// Number of an MSR: the guest's ECX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MsrIndex(pub u32);

impl MsrIndex {
    /// The name in the SDM (volume 4), in AMD's APM (volume 2, appendix A),
    /// the TLFS, or else in the kernel's `msr-index.h` and `kvm_para.h`.
    pub fn name(self) -> Option<&'static str> {
        let found = NAMES.binary_search_by_key(&self.0, |&(index, _)| index).ok()?;
        NAMES.get(found).map(|&(_, name)| name)
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

/// Sorted by index.
const NAMES: &[(u32, &str)] = &[
    (0x10, "IA32_TIME_STAMP_COUNTER"),
    (0x11, "MSR_KVM_WALL_CLOCK"),
    (0x12, "MSR_KVM_SYSTEM_TIME"),
    (0x17, "IA32_PLATFORM_ID"),
    (0x1b, "IA32_APIC_BASE"),
    (0x35, "MSR_CORE_THREAD_COUNT"),
    (0x3a, "IA32_FEATURE_CONTROL"),
    (0x3b, "IA32_TSC_ADJUST"),
    (0x48, "IA32_SPEC_CTRL"),
    (0x49, "IA32_PRED_CMD"),
    (0x4e, "MSR_PPIN_CTL"),
    (0x4f, "MSR_PPIN"),
    (0x79, "IA32_BIOS_UPDT_TRIG"),
    (0x8b, "IA32_BIOS_SIGN_ID"),
    (0x9e, "IA32_SMBASE"),
    (0xc1, "IA32_PMC0"),
    (0xc2, "IA32_PMC1"),
    (0xc3, "IA32_PMC2"),
    (0xc4, "IA32_PMC3"),
    (0xcd, "MSR_FSB_FREQ"),
    (0xce, "MSR_PLATFORM_INFO"),
    (0xcf, "IA32_CORE_CAPABILITIES"),
    (0xe1, "IA32_UMWAIT_CONTROL"),
    (0xe2, "MSR_PKG_CST_CONFIG_CONTROL"),
    (0xe7, "IA32_MPERF"),
    (0xe8, "IA32_APERF"),
    (0xfe, "IA32_MTRRCAP"),
    (0x10a, "IA32_ARCH_CAPABILITIES"),
    (0x10b, "IA32_FLUSH_CMD"),
    (0x122, "IA32_TSX_CTRL"),
    (0x140, "MSR_MISC_FEATURES_ENABLES"),
    (0x174, "IA32_SYSENTER_CS"),
    (0x175, "IA32_SYSENTER_ESP"),
    (0x176, "IA32_SYSENTER_EIP"),
    (0x179, "IA32_MCG_CAP"),
    (0x17a, "IA32_MCG_STATUS"),
    (0x17b, "IA32_MCG_CTL"),
    (0x186, "IA32_PERFEVTSEL0"),
    (0x187, "IA32_PERFEVTSEL1"),
    (0x188, "IA32_PERFEVTSEL2"),
    (0x189, "IA32_PERFEVTSEL3"),
    (0x198, "IA32_PERF_STATUS"),
    (0x199, "IA32_PERF_CTL"),
    (0x19a, "IA32_CLOCK_MODULATION"),
    (0x19b, "IA32_THERM_INTERRUPT"),
    (0x19c, "IA32_THERM_STATUS"),
    (0x1a0, "IA32_MISC_ENABLE"),
    (0x1a2, "MSR_TEMPERATURE_TARGET"),
    (0x1a4, "MSR_MISC_FEATURE_CONTROL"),
    (0x1aa, "MSR_MISC_PWR_MGMT"),
    (0x1ad, "MSR_TURBO_RATIO_LIMIT"),
    (0x1b0, "IA32_ENERGY_PERF_BIAS"),
    (0x1b1, "IA32_PACKAGE_THERM_STATUS"),
    (0x1c4, "IA32_XFD"),
    (0x1c5, "IA32_XFD_ERR"),
    (0x1d9, "IA32_DEBUGCTL"),
    (0x1fc, "MSR_POWER_CTL"),
    (0x200, "IA32_MTRR_PHYSBASE0"),
    (0x201, "IA32_MTRR_PHYSMASK0"),
    (0x250, "IA32_MTRR_FIX64K_00000"),
    (0x258, "IA32_MTRR_FIX16K_80000"),
    (0x259, "IA32_MTRR_FIX16K_A0000"),
    (0x277, "IA32_PAT"),
    (0x2ff, "IA32_MTRR_DEF_TYPE"),
    (0x345, "IA32_PERF_CAPABILITIES"),
    (0x38d, "IA32_FIXED_CTR_CTRL"),
    (0x38e, "IA32_PERF_GLOBAL_STATUS"),
    (0x38f, "IA32_PERF_GLOBAL_CTRL"),
    (0x390, "IA32_PERF_GLOBAL_OVF_CTRL"),
    (0x480, "IA32_VMX_BASIC"),
    (0x600, "IA32_DS_AREA"),
    (0x606, "MSR_RAPL_POWER_UNIT"),
    (0x610, "MSR_PKG_POWER_LIMIT"),
    (0x611, "MSR_PKG_ENERGY_STATUS"),
    (0x613, "MSR_PKG_PERF_STATUS"),
    (0x614, "MSR_PKG_POWER_INFO"),
    (0x618, "MSR_DRAM_POWER_LIMIT"),
    (0x619, "MSR_DRAM_ENERGY_STATUS"),
    (0x638, "MSR_PP0_POWER_LIMIT"),
    (0x639, "MSR_PP0_ENERGY_STATUS"),
    (0x641, "MSR_PP1_ENERGY_STATUS"),
    (0x6a0, "IA32_U_CET"),
    (0x6a2, "IA32_S_CET"),
    (0x6e0, "IA32_TSC_DEADLINE"),
    (0x770, "IA32_PM_ENABLE"),
    (0x771, "IA32_HWP_CAPABILITIES"),
    (0x774, "IA32_HWP_REQUEST"),
    (0x802, "IA32_X2APIC_APICID"),
    (0x808, "IA32_X2APIC_TPR"),
    (0x80b, "IA32_X2APIC_EOI"),
    (0x830, "IA32_X2APIC_ICR"),
    (0xda0, "IA32_XSS"),
    (0x4000_0000, "HV_X64_MSR_GUEST_OS_ID"),
    (0x4000_0001, "HV_X64_MSR_HYPERCALL"),
    (0x4000_0002, "HV_X64_MSR_VP_INDEX"),
    (0x4000_0003, "HV_X64_MSR_RESET"),
    (0x4000_0010, "HV_X64_MSR_VP_RUNTIME"),
    (0x4000_0020, "HV_X64_MSR_TIME_REF_COUNT"),
    (0x4000_0021, "HV_X64_MSR_REFERENCE_TSC"),
    (0x4000_0022, "HV_X64_MSR_TSC_FREQUENCY"),
    (0x4000_0023, "HV_X64_MSR_APIC_FREQUENCY"),
    (0x4000_0073, "HV_X64_MSR_VP_ASSIST_PAGE"),
    (0x4000_0080, "HV_X64_MSR_SCONTROL"),
    (0x4000_0100, "HV_X64_MSR_CRASH_P0"),
    (0x4000_0101, "HV_X64_MSR_CRASH_P1"),
    (0x4000_0102, "HV_X64_MSR_CRASH_P2"),
    (0x4000_0103, "HV_X64_MSR_CRASH_P3"),
    (0x4000_0104, "HV_X64_MSR_CRASH_P4"),
    (0x4000_0105, "HV_X64_MSR_CRASH_CTL"),
    (0x4b56_4d00, "MSR_KVM_WALL_CLOCK_NEW"),
    (0x4b56_4d01, "MSR_KVM_SYSTEM_TIME_NEW"),
    (0x4b56_4d02, "MSR_KVM_ASYNC_PF_EN"),
    (0x4b56_4d03, "MSR_KVM_STEAL_TIME"),
    (0x4b56_4d04, "MSR_KVM_PV_EOI_EN"),
    (0x4b56_4d05, "MSR_KVM_POLL_CONTROL"),
    (0x4b56_4d06, "MSR_KVM_ASYNC_PF_INT"),
    (0x4b56_4d07, "MSR_KVM_ASYNC_PF_ACK"),
    (0xc000_0080, "IA32_EFER"),
    (0xc000_0081, "IA32_STAR"),
    (0xc000_0082, "IA32_LSTAR"),
    (0xc000_0083, "IA32_CSTAR"),
    (0xc000_0084, "IA32_FMASK"),
    (0xc000_0100, "IA32_FS_BASE"),
    (0xc000_0101, "IA32_GS_BASE"),
    (0xc000_0102, "IA32_KERNEL_GS_BASE"),
    (0xc000_0103, "IA32_TSC_AUX"),
    (0xc000_0104, "MSR_AMD64_TSC_RATIO"),
    (0xc001_0004, "MSR_K7_PERFCTR0"),
    (0xc001_0010, "MSR_AMD64_SYSCFG"),
    (0xc001_0015, "MSR_K7_HWCR"),
    (0xc001_001a, "MSR_K8_TOP_MEM1"),
    (0xc001_001d, "MSR_K8_TOP_MEM2"),
    (0xc001_001f, "MSR_AMD64_NB_CFG"),
    (0xc001_0055, "MSR_K8_INT_PENDING_MSG"),
    (0xc001_0058, "MSR_FAM10H_MMIO_CONF_BASE"),
    (0xc001_0061, "MSR_AMD_PSTATE_CUR_LIMIT"),
    (0xc001_0062, "MSR_AMD_PERF_CTL"),
    (0xc001_0063, "MSR_AMD_PERF_STATUS"),
    (0xc001_0064, "MSR_AMD_PSTATE_DEF_BASE"),
    (0xc001_0114, "MSR_VM_CR"),
    (0xc001_0117, "MSR_VM_HSAVE_PA"),
    (0xc001_011f, "MSR_AMD64_VIRT_SPEC_CTRL"),
    (0xc001_0140, "MSR_AMD64_OSVW_ID_LENGTH"),
    (0xc001_0141, "MSR_AMD64_OSVW_STATUS"),
    (0xc001_0200, "MSR_F15H_PERF_CTL0"),
    (0xc001_0299, "MSR_AMD_RAPL_POWER_UNIT"),
    (0xc001_029b, "MSR_AMD_PKG_ENERGY_STATUS"),
    (0xc001_1004, "MSR_AMD64_CPUID_FN_1"),
    (0xc001_1020, "MSR_AMD64_LS_CFG"),
    (0xc001_1022, "MSR_AMD64_DC_CFG"),
    (0xc001_1023, "MSR_AMD64_TW_CFG"),
    (0xc001_1029, "MSR_AMD64_DE_CFG"),
    (0xc001_102a, "MSR_AMD64_BU_CFG2"),
    (0xc001_1030, "MSR_AMD64_IBSFETCHCTL"),
    (0xc001_1033, "MSR_AMD64_IBSOPCTL"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn an_msr_is_printed_in_hex_with_its_name() {
        assert_eq!(MsrIndex(0x10a).described().to_string(), "0x10a (IA32_ARCH_CAPABILITIES)");
        assert_eq!(MsrIndex(0xdead_beef).described().to_string(), "0xdeadbeef");
    }
}
