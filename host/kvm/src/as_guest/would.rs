//! What KVM would do with a guest's access, without doing it to the guest.

use wasmsr_interface::{KvmAnswer, MsrIndex, MsrOp};

use super::AsGuest;
use crate::kvm_msrs::KernelMsrs;

/// MSRs whose answers cannot be held against another's, as first and last:
const NOT_COMPARABLE: [(u32, u32); 19] = [
    // The time-stamp counter and its adjustment, which move each other.
    (0x10, 0x10),
    (0x3b, 0x3b),
    // KVM's own MSRs and Hyper-V's act through the guest's memory, and some are one for the VM.
    (0x11, 0x12),
    (0x4000_0000, 0x4000_01ff),
    (0x4b56_4d00, 0x4b56_4dff),
    // The APIC's mode and its deadline: the second VM's APIC is in a state of its own.
    (0x1b, 0x1b),
    (0x6e0, 0x6e0),
    (0x800, 0x8ff),
    // IA32_MPERF and IA32_APERF, and counters, go on while the guest runs; what enables and
    // sums them up depends on others.
    (0xe7, 0xe8),
    (0xc1, 0xc8),
    (0x309, 0x30f),
    (0x38d, 0x390),
    (0x4c1, 0x4c8),
    (0xc000_0300, 0xc000_0303),
    (0xc001_0004, 0xc001_0007),
    (0xc001_0200, 0xc001_020b),
    // Bits of MSR_PLATFORM_INFO, and of HWCR, decide what these take.
    (0x140, 0x140),
    (0x400, 0x47f),
    // IA32_EFER: the second VM does not leave its mode.
    (0xc000_0080, 0xc000_0080),
];

/// Whether what KVM answers for this MSR depends on nothing but the MSR's own value and the
/// guest's CPUID.
fn is_comparable(index: MsrIndex) -> bool {
    !NOT_COMPARABLE.iter().any(|(first, last)| (*first..=*last).contains(&index.0))
}

impl AsGuest {
    /// What KVM would do with the guest's access, if the MSR had the value `held`; `None`: the
    /// value that it has. If the second VM does not answer, that is not comparable.
    pub(crate) fn would(&self, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        if !is_comparable(index) {
            return KvmAnswer::NotComparable;
        }
        let msrs = self.msrs();
        let held = held.or_else(|| msrs.read(index));
        let answer = match op {
            MsrOp::Read => self.ask(|reference| {
                let may = reference.may_read(index, msrs)?;
                Ok(Some(held.filter(|_| may).map_or(KvmAnswer::Fault, KvmAnswer::Value)))
            }),
            MsrOp::Write(value) => self.ask(|reference| {
                let taken = reference.would_write(index, value, held)?;
                Ok(Some(taken.map_or(KvmAnswer::Fault, KvmAnswer::Taken)))
            }),
        };
        answer.unwrap_or(KvmAnswer::NotComparable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_with_time_or_depends_on_others_is_not_comparable() {
        for index in [0x10, 0x3b, 0x12, 0x1b, 0x6e0, 0x4000_0000, 0x4b56_4d01, 0xc000_0080] {
            assert!(!is_comparable(MsrIndex(index)), "{index:#x}");
        }
        for index in [0x277, 0x3a, 0x8b, 0x48, 0xc000_0082, 0x1234_5678] {
            assert!(is_comparable(MsrIndex(index)), "{index:#x}");
        }
    }
}
