//! Names of MSRs that guests are known to use and KVM does not handle.

use core::fmt;

use wasmsr_sdk::MsrIndex;

/// An MSR for people: `0x606 (MSR_RAPL_POWER_UNIT)`.
pub(crate) struct Named(pub(crate) MsrIndex);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match name(self.0) {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => self.0.fmt(f),
        }
    }
}

/// The name in the SDM (volume 4) or AMD's APM (volume 2, appendix A), or else
/// in the kernel's `msr-index.h`.
pub(crate) fn name(msr: MsrIndex) -> Option<&'static str> {
    let found = NAMES.binary_search_by_key(&msr.0, |&(index, _)| index).ok()?;
    NAMES.get(found).map(|&(_, name)| name)
}

/// Sorted by index.
const NAMES: &[(u32, &str)] = &[
    (0x33, "MSR_TEST_CTRL"),
    (0x34, "MSR_SMI_COUNT"),
    (0x35, "MSR_CORE_THREAD_COUNT"),
    (0x4e, "MSR_PPIN_CTL"),
    (0x4f, "MSR_PPIN"),
    (0xce, "MSR_PLATFORM_INFO"),
    (0xcf, "IA32_CORE_CAPABILITIES"),
    (0xe1, "IA32_UMWAIT_CONTROL"),
    (0xe2, "MSR_PKG_CST_CONFIG_CONTROL"),
    (0xe7, "IA32_MPERF"),
    (0xe8, "IA32_APERF"),
    (0x10a, "IA32_ARCH_CAPABILITIES"),
    (0x122, "IA32_TSX_CTRL"),
    (0x123, "IA32_MCU_OPT_CTRL"),
    (0x140, "MSR_MISC_FEATURES_ENABLES"),
    (0x17f, "MSR_ERROR_CONTROL"),
    (0x19a, "IA32_CLOCK_MODULATION"),
    (0x19b, "IA32_THERM_INTERRUPT"),
    (0x19c, "IA32_THERM_STATUS"),
    (0x1a0, "IA32_MISC_ENABLE"),
    (0x1a2, "MSR_TEMPERATURE_TARGET"),
    (0x1a4, "MSR_MISC_FEATURE_CONTROL"),
    (0x1a6, "MSR_OFFCORE_RSP_0"),
    (0x1a7, "MSR_OFFCORE_RSP_1"),
    (0x1aa, "MSR_MISC_PWR_MGMT"),
    (0x1ad, "MSR_TURBO_RATIO_LIMIT"),
    (0x1ae, "MSR_TURBO_RATIO_LIMIT1"),
    (0x1af, "MSR_TURBO_RATIO_LIMIT2"),
    (0x1b0, "IA32_ENERGY_PERF_BIAS"),
    (0x1b1, "IA32_PACKAGE_THERM_STATUS"),
    (0x1b2, "IA32_PACKAGE_THERM_INTERRUPT"),
    (0x1c8, "MSR_LBR_SELECT"),
    (0x1c9, "MSR_LBR_TOS"),
    (0x1d9, "IA32_DEBUGCTL"),
    (0x1fc, "MSR_POWER_CTL"),
    (0x345, "IA32_PERF_CAPABILITIES"),
    (0x3f1, "IA32_PEBS_ENABLE"),
    (0x3f6, "MSR_PEBS_LD_LAT_THRESHOLD"),
    (0x3f7, "MSR_PEBS_FRONTEND"),
    (0x3f8, "MSR_PKG_C3_RESIDENCY"),
    (0x3f9, "MSR_PKG_C6_RESIDENCY"),
    (0x3fa, "MSR_PKG_C7_RESIDENCY"),
    (0x3fc, "MSR_CORE_C3_RESIDENCY"),
    (0x3fd, "MSR_CORE_C6_RESIDENCY"),
    (0x3fe, "MSR_CORE_C7_RESIDENCY"),
    (0x570, "IA32_RTIT_CTL"),
    (0x601, "MSR_VR_CURRENT_CONFIG"),
    (0x606, "MSR_RAPL_POWER_UNIT"),
    (0x60d, "MSR_PKG_C2_RESIDENCY"),
    (0x610, "MSR_PKG_POWER_LIMIT"),
    (0x611, "MSR_PKG_ENERGY_STATUS"),
    (0x613, "MSR_PKG_PERF_STATUS"),
    (0x614, "MSR_PKG_POWER_INFO"),
    (0x618, "MSR_DRAM_POWER_LIMIT"),
    (0x619, "MSR_DRAM_ENERGY_STATUS"),
    (0x61b, "MSR_DRAM_PERF_STATUS"),
    (0x61c, "MSR_DRAM_POWER_INFO"),
    (0x630, "MSR_PKG_C8_RESIDENCY"),
    (0x631, "MSR_PKG_C9_RESIDENCY"),
    (0x632, "MSR_PKG_C10_RESIDENCY"),
    (0x638, "MSR_PP0_POWER_LIMIT"),
    (0x639, "MSR_PP0_ENERGY_STATUS"),
    (0x640, "MSR_PP1_POWER_LIMIT"),
    (0x641, "MSR_PP1_ENERGY_STATUS"),
    (0x648, "MSR_CONFIG_TDP_NOMINAL"),
    (0x649, "MSR_CONFIG_TDP_LEVEL_1"),
    (0x64a, "MSR_CONFIG_TDP_LEVEL_2"),
    (0x64b, "MSR_CONFIG_TDP_CONTROL"),
    (0x64c, "MSR_TURBO_ACTIVATION_RATIO"),
    (0x64d, "MSR_PLATFORM_ENERGY_STATUS"),
    (0x64e, "MSR_PPERF"),
    (0x64f, "MSR_PERF_LIMIT_REASONS"),
    (0x690, "MSR_CORE_PERF_LIMIT_REASONS"),
    (0x770, "IA32_PM_ENABLE"),
    (0x771, "IA32_HWP_CAPABILITIES"),
    (0x773, "IA32_HWP_INTERRUPT"),
    (0x774, "IA32_HWP_REQUEST"),
    (0x777, "IA32_HWP_STATUS"),
    (0xc000_00e9, "MSR_F17H_IRPERF"),
    (0xc000_0104, "MSR_AMD64_TSC_RATIO"),
    (0xc001_0010, "MSR_AMD64_SYSCFG"),
    (0xc001_0015, "MSR_K7_HWCR"),
    (0xc001_001a, "MSR_K8_TOP_MEM1"),
    (0xc001_001d, "MSR_K8_TOP_MEM2"),
    (0xc001_001f, "MSR_AMD64_NB_CFG"),
    (0xc001_0020, "MSR_AMD64_PATCH_LOADER"),
    (0xc001_0055, "MSR_K8_INT_PENDING_MSG"),
    (0xc001_0058, "MSR_FAM10H_MMIO_CONF_BASE"),
    (0xc001_0061, "MSR_AMD_PSTATE_CUR_LIMIT"),
    (0xc001_0062, "MSR_AMD_PERF_CTL"),
    (0xc001_0063, "MSR_AMD_PERF_STATUS"),
    (0xc001_0064, "MSR_AMD_PSTATE_DEF_BASE"),
    (0xc001_007a, "MSR_F15H_CU_PWR_ACCUMULATOR"),
    (0xc001_007b, "MSR_F15H_CU_MAX_PWR_ACCUMULATOR"),
    (0xc001_0112, "MSR_K8_TSEG_ADDR"),
    (0xc001_0113, "MSR_K8_TSEG_MASK"),
    (0xc001_0114, "MSR_VM_CR"),
    (0xc001_0115, "MSR_VM_IGNNE"),
    (0xc001_0140, "MSR_AMD64_OSVW_ID_LENGTH"),
    (0xc001_0141, "MSR_AMD64_OSVW_STATUS"),
    (0xc001_0280, "MSR_F15H_PTSC"),
    (0xc001_0299, "MSR_AMD_RAPL_POWER_UNIT"),
    (0xc001_029a, "MSR_AMD_CORE_ENERGY_STATUS"),
    (0xc001_029b, "MSR_AMD_PKG_ENERGY_STATUS"),
    (0xc001_02b0, "MSR_AMD_CPPC_CAP1"),
    (0xc001_02b1, "MSR_AMD_CPPC_ENABLE"),
    (0xc001_02b3, "MSR_AMD_CPPC_REQ"),
    (0xc001_02f0, "MSR_AMD_PPIN_CTL"),
    (0xc001_02f1, "MSR_AMD_PPIN"),
    (0xc001_1004, "MSR_AMD64_CPUID_FN_1"),
    (0xc001_1020, "MSR_AMD64_LS_CFG"),
    (0xc001_1021, "MSR_F15H_IC_CFG"),
    (0xc001_1022, "MSR_AMD64_DC_CFG"),
    (0xc001_1023, "MSR_AMD64_TW_CFG"),
    (0xc001_1029, "MSR_AMD64_DE_CFG"),
    (0xc001_102a, "MSR_AMD64_BU_CFG2"),
    (0xc001_102c, "MSR_F15H_EX_CFG"),
    (0xc001_1030, "MSR_AMD64_IBSFETCHCTL"),
    (0xc001_1033, "MSR_AMD64_IBSOPCTL"),
    (0xc001_103a, "MSR_AMD64_IBSCTL"),
];

/// How much longer a text with all names is than one without.
#[cfg(test)]
pub(crate) fn total_length() -> usize {
    NAMES.iter().map(|(_, name)| name.len() + " ()".len()).sum()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn an_msr_is_shown_with_its_name() {
        assert_eq!(Named(MsrIndex(0x606)).to_string(), "0x606 (MSR_RAPL_POWER_UNIT)");
        assert_eq!(Named(MsrIndex(0xdead_beef)).to_string(), "0xdeadbeef");
    }
}
