//! Whether a guest's writes of IA32_TSC_DEADLINE leave KVM where a filter asks for it.

use std::fs;
use std::path::Path;

use wasmsr_interface::{CpuidChange, KernelVersion, MsrIndex};

use crate::backend::{Backend, backend};

/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE: MsrIndex = MsrIndex(0x6e0);

/// What becomes of a guest's write of IA32_TSC_DEADLINE that the filter denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlineWrites {
    /// It exits.
    Exit,
    /// KVM may take it before it looks at the filter.
    MayStay,
    /// KVM takes it before it looks at the filter.
    Stay,
}

/// What follows from the host's kernel and from what stands behind its KVM.
///
/// KVM's fast path for writes takes this MSR before it looks at the filter: since Linux
/// 6.18 in every guest, and since 5.8 where the VMX preemption timer drives the local
/// APIC's (`handle_fastpath_set_tscdeadline` in arch/x86/kvm/x86.c, which asked
/// `kvm_can_use_hv_timer` up to 6.17). A KVM that interprets ring 0 has no such path.
pub fn deadline_writes() -> DeadlineWrites {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let kernel = kernel.and_then(|kernel| kernel.parse().ok());
    of(kernel, backend(Path::new("/sys/module")))
}

fn of(kernel: Option<KernelVersion>, backend: Backend) -> DeadlineWrites {
    const ALWAYS: KernelVersion = KernelVersion { major: 6, minor: 18 };
    let always = kernel.map(|kernel| kernel >= ALWAYS);
    match (backend, always) {
        (Backend::Pvm, _) | (Backend::Amd, Some(false)) => DeadlineWrites::Exit,
        (Backend::Intel | Backend::Amd, Some(true)) => DeadlineWrites::Stay,
        _ => DeadlineWrites::MayStay,
    }
}

impl DeadlineWrites {
    /// What to know if `what`, such as a plugin, wants these writes to exit; `None` if
    /// they do.
    pub fn warning(self, what: &str) -> Option<String> {
        let (take, so) = match self {
            DeadlineWrites::Exit => return None,
            DeadlineWrites::MayStay => ("may take", "may not exit"),
            DeadlineWrites::Stay => ("takes", "do not exit"),
        };
        Some(format!(
            "{what} writes of 0x6e0 (IA32_TSC_DEADLINE), but the KVM of this host {take} them \
             before it looks at the filter, so they {so}; clear bit 24 of ECX in CPUID leaf 0x1 \
             with a [[cpuid]] table, so that the guest uses another timer"
        ))
    }
}

/// Whether the changes hide the TSC deadline mode of the local APIC from guests.
pub fn hides_deadline_mode(changes: &[CpuidChange]) -> bool {
    changes.iter().any(|change| change.leaf == 1 && change.ecx.clear & (1 << 24) != 0)
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::RegisterChange;

    use super::*;

    #[test]
    fn the_kernel_and_its_backend_decide() {
        let of = |kernel: &str, backend| super::of(kernel.parse().ok(), backend);
        for (kernel, intel, amd) in [
            ("6.1", DeadlineWrites::MayStay, DeadlineWrites::Exit),
            ("6.17", DeadlineWrites::MayStay, DeadlineWrites::Exit),
            ("6.18", DeadlineWrites::Stay, DeadlineWrites::Stay),
            ("7.0", DeadlineWrites::Stay, DeadlineWrites::Stay),
            ("?", DeadlineWrites::MayStay, DeadlineWrites::MayStay),
        ] {
            assert_eq!(of(kernel, Backend::Intel), intel, "{kernel}");
            assert_eq!(of(kernel, Backend::Amd), amd, "{kernel}");
            assert_eq!(of(kernel, Backend::Pvm), DeadlineWrites::Exit, "{kernel}");
            assert_eq!(of(kernel, Backend::Unseen), DeadlineWrites::MayStay, "{kernel}");
        }
    }

    #[test]
    fn a_warning_says_what_to_do() {
        assert_eq!(DeadlineWrites::Exit.warning("plugin `p` claims"), None);
        let warning = DeadlineWrites::Stay.warning("plugin `p` claims").unwrap();
        for part in ["plugin `p` claims writes of 0x6e0", "do not exit", "bit 24 of ECX"] {
            assert!(warning.contains(part), "{warning}");
        }
    }

    #[test]
    fn a_hidden_timer_needs_no_warning() {
        let mut change = CpuidChange::none(1, 0);
        assert!(!hides_deadline_mode(std::slice::from_ref(&change)));
        change.ecx = RegisterChange { set: 0, clear: 1 << 24 };
        assert!(hides_deadline_mode(&[change]));
    }
}
