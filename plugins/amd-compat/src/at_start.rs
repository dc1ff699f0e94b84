//! Values that the plugin gives to KVM at the start, so that KVM answers the
//! guest with them at its own speed.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, MsrIndex, Refused, VcpuId, kvm, log};

use crate::config::Config;
use crate::registers::{HWCR, HWCR_TSC_FREQ_SEL, PATCH_LEVEL};

/// The values for KVM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AtStart {
    vcpu: Option<VcpuId>,
    patch_level: Option<Bits64>,
    tsc_freq_sel: bool,
}

/// The saved state.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    hwcr: Option<Bits64>,
}

impl AtStart {
    pub(crate) fn new(vcpu: Option<VcpuId>, config: &Config) -> Self {
        AtStart { vcpu, patch_level: config.patch_level, tsc_freq_sel: config.tsc_freq_sel }
    }

    /// Gives them to KVM for this vCPU.
    pub(crate) fn apply(self) {
        if let Some(Bits64(level)) = self.patch_level {
            self.check("patch-level", PATCH_LEVEL, kvm::wrmsr(PATCH_LEVEL, level));
        }
        if self.tsc_freq_sel {
            let set = kvm::rdmsr(HWCR).and_then(|held| kvm::wrmsr(HWCR, held | HWCR_TSC_FREQ_SEL));
            self.check("tsc-freq-sel", HWCR, set);
        }
    }

    /// What the guest has made of them; `None` for what it cannot have changed.
    pub(crate) fn keep(self) -> Kept {
        let hwcr = self.tsc_freq_sel.then(|| kvm::rdmsr(HWCR).ok()).flatten();
        Kept { hwcr: hwcr.map(Bits64) }
    }

    /// Restores what the guest had made of them, if the instance before had set them.
    pub(crate) fn take_over(self, kept: Kept) {
        if let (true, Some(Bits64(hwcr))) = (self.tsc_freq_sel, kept.hwcr) {
            self.check("tsc-freq-sel", HWCR, kvm::wrmsr(HWCR, hwcr));
        }
    }

    fn check(self, key: &str, msr: MsrIndex, result: Result<(), Refused>) {
        // If KVM refuses one vCPU, it refuses all.
        if result.is_err() && self.vcpu.is_none_or(|vcpu| vcpu.0 == 0) {
            log::warn!(
                "config key `{key}` has no effect: KVM refuses the value of {msr}; grant \
                 `kvm-msr`, or see the plugin's README for the kernel that it needs"
            );
        }
    }
}
