//! `IA32_MISC_ENABLE` (Intel SDM volume 4, table 2-2): KVM's own value, with
//! bits that the operator has fixed.

use wasmsr_sdk::{MsrIndex, Otherwise, kvm};

pub(crate) const MISC_ENABLE: MsrIndex = MsrIndex(0x1a0);

/// Performance monitoring available, bit 7: a write of it is ignored.
const PERFORMANCE_MONITORING: u64 = 1 << 7;

/// Branch trace storage and precise event based sampling unavailable, bits 11 and 12:
/// a write that changes one is #GP.
const READ_ONLY: u64 = 1 << 11 | 1 << 12;

/// The bits that do not follow KVM's value. None is both set and clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fixed {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Fixed {
    pub(crate) fn read(self) -> Result<u64, Otherwise> {
        Ok(kvm::rdmsr(MISC_ENABLE)? & !self.clear | self.set)
    }

    /// Gives a write to KVM. The fixed bits are read-only for the guest, and its
    /// changes of them are ignored. Kernels before 6.0 do not protect the bits that a
    /// guest must not change, so this function does.
    pub(crate) fn write(self, value: u64) -> Result<(), Otherwise> {
        let held = kvm::rdmsr(MISC_ENABLE)?;
        let fixed = self.set | self.clear;
        if (value ^ held) & READ_ONLY & !fixed != 0 {
            return Err(Otherwise::Fault);
        }
        let kept = fixed | PERFORMANCE_MONITORING;
        Ok(kvm::wrmsr_as_guest(MISC_ENABLE, value & !kept | held & kept)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmsr_sdk::native::Host;

    use super::*;

    /// KVM's value at the start.
    const KVM: u64 = 0x1801;

    #[test]
    fn what_kvm_does_not_have_faults() {
        let _host = Host::fresh();
        assert_eq!(Fixed::default().read(), Err(Otherwise::Fault));
        assert_eq!(Fixed::default().write(0), Err(Otherwise::Fault));
    }

    #[test]
    fn a_guest_that_writes_back_what_it_read_changes_nothing() {
        let host = Host::fresh();
        host.set_kvm_msr(MISC_ENABLE, KVM);
        let fixed = Fixed { set: 1 << 16 | 1 << 7, clear: 1 << 11 | 1 };
        let read = fixed.read().unwrap();
        assert_eq!(read, 0x1_1080);
        assert_eq!(fixed.write(read), Ok(()));
        assert_eq!(host.kvm_msr(MISC_ENABLE), Some(KVM));
    }

    #[test]
    fn linux_may_clear_the_limit_of_cpuid() {
        let host = Host::fresh();
        host.set_kvm_msr(MISC_ENABLE, KVM | 1 << 22);
        assert_eq!(Fixed::default().write(KVM), Ok(()));
        assert_eq!(host.kvm_msr(MISC_ENABLE), Some(KVM));
    }

    proptest! {
        /// Bit by bit, by the tables of the SDM and of the operator.
        #[test]
        fn each_bit_has_one_master(held: u64, set: u64, clear: u64, value: u64, tame: bool) {
            let fixed = Fixed { set: set & !clear, clear };
            let value = if tame { value & !READ_ONLY | held & READ_ONLY } else { value };
            let host = Host::fresh();
            host.set_kvm_msr(MISC_ENABLE, held);
            let bit = |of: u64, bit: u32| of >> bit & 1;
            let is_fixed = |at: u32| bit(fixed.set | fixed.clear, at) != 0;
            let faults =
                [11, 12].iter().any(|&at| bit(value, at) != bit(held, at) && !is_fixed(at));
            prop_assert_eq!(fixed.write(value).is_err(), faults);
            let now = host.kvm_msr(MISC_ENABLE).unwrap();
            let read = fixed.read().unwrap();
            for at in 0..64 {
                let is_kvms = faults || is_fixed(at) || at == 7;
                let expected = if is_kvms { bit(held, at) } else { bit(value, at) };
                prop_assert_eq!(bit(now, at), expected, "KVM's bit {}", at);
                let shown = if is_fixed(at) { bit(fixed.set, at) } else { expected };
                prop_assert_eq!(bit(read, at), shown, "bit {}", at);
            }
        }
    }
}
