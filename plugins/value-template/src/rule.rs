//! The answers to accesses to one entry's MSRs.

use wasmsr_sdk::{MsrIndex, MsrRange, Otherwise, kvm};

/// Bits of a template, applied to a value of KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// No bit outside `mask`.
    pub(crate) value: u64,
    pub(crate) mask: u64,
}

impl Overlay {
    /// `kvm` with the template's bits in place of its own.
    pub(crate) fn over(self, kvm: u64) -> u64 {
        kvm & !self.mask | self.value
    }

    /// The bits that an earlier template did not have, or had otherwise.
    pub(crate) fn changed_since(self, earlier: Overlay) -> Overlay {
        let mask = self.mask & !(earlier.mask & !(earlier.value ^ self.value));
        Overlay { value: self.value & mask, mask }
    }
}

/// An answer to a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// KVM answers: such reads do not exit.
    Kernel,
    Fault,
    /// KVM's present value with the template applied.
    Sticky(Overlay),
}

/// An answer to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// KVM answers: such writes do not exit.
    Kernel,
    Fault,
    Ignore,
    /// KVM gets the bits that are neither the template's nor read-only, as the guest's
    /// own write.
    Forward {
        read_only: u64,
    },
}

/// One entry of the template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) range: MsrRange,
    /// The initial value of KVM's own MSRs.
    pub(crate) initial: Option<Overlay>,
    pub(crate) read: Read,
    pub(crate) write: Write,
}

impl Rule {
    /// Answers a read of one of the entry's MSRs.
    pub(crate) fn read(&self, msr: MsrIndex) -> Result<u64, Otherwise> {
        match self.read {
            Read::Kernel => Err(Otherwise::Kernel),
            Read::Fault => Err(Otherwise::Fault),
            Read::Sticky(overlay) if overlay.mask == u64::MAX => Ok(overlay.value),
            Read::Sticky(overlay) => Ok(overlay.over(kvm::rdmsr_as_guest(msr)?)),
        }
    }

    /// Takes a write of one of the entry's MSRs, wholly or not at all.
    pub(crate) fn write(&self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        match self.write {
            Write::Kernel => Err(Otherwise::Kernel),
            Write::Fault => Err(Otherwise::Fault),
            Write::Ignore => Ok(()),
            Write::Forward { read_only } => {
                let held = kvm::rdmsr(msr)?;
                let template = self.sticky();
                if (template.over(held) ^ value) & read_only != 0 {
                    return Err(Otherwise::Fault);
                }
                // A guest cannot write the template's bits, so KVM keeps its own
                // values of these.
                kvm::wrmsr_as_guest(msr, held & template.mask | value & !template.mask)?;
                Ok(())
            }
        }
    }

    /// Whether KVM must have the entry's MSRs.
    pub(crate) fn needs_kvm(&self) -> bool {
        self.initial.is_some()
            || matches!(self.read, Read::Sticky(overlay) if overlay.mask != u64::MAX)
            || matches!(self.write, Write::Forward { .. })
    }

    /// The bits of an initial value that a guest cannot change.
    pub(crate) fn locked(&self) -> u64 {
        match (self.initial, self.write) {
            (Some(initial), Write::Fault | Write::Ignore) => initial.mask,
            (_, Write::Forward { read_only }) => read_only,
            _ => 0,
        }
    }

    fn sticky(&self) -> Overlay {
        match self.read {
            Read::Sticky(overlay) => overlay,
            Read::Kernel | Read::Fault => Overlay { value: 0, mask: 0 },
        }
    }
}
