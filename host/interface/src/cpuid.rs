//! CPUID leaves as plugins and the profile change them. The VMM applies the changes over
//! what its hypervisor supports.

use std::sync::Arc;

/// The change of one leaf and subleaf. Bits that no change names stay as the hypervisor
/// gives them; a leaf that it does not have starts from zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuidChange {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry; 0 for a leaf without subleaves.
    pub subleaf: u32,
    /// Change of EAX.
    pub eax: RegisterChange,
    /// Change of EBX.
    pub ebx: RegisterChange,
    /// Change of ECX.
    pub ecx: RegisterChange,
    /// Change of EDX.
    pub edx: RegisterChange,
    /// The plugins that ask for the change, in the order of the profile; none if the
    /// profile itself does.
    pub plugins: Vec<Arc<str>>,
}

/// The change of one register: `(old & !clear) | set`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RegisterChange {
    /// Bits that must be 1.
    pub set: u32,
    /// Bits that must be 0; never overlaps `set`.
    pub clear: u32,
}

impl RegisterChange {
    /// The whole register is `value`.
    pub fn whole(value: u32) -> Self {
        RegisterChange { set: value, clear: !value }
    }

    /// The bits that it decides.
    pub fn bits(self) -> u32 {
        self.set | self.clear
    }

    /// The bits on which two changes disagree.
    pub fn contradiction(self, other: RegisterChange) -> u32 {
        (self.set & other.clear) | (self.clear & other.set)
    }

    /// The register after the change.
    pub fn apply(self, old: u32) -> u32 {
        (old & !self.clear) | self.set
    }
}

impl CpuidChange {
    /// No change, of this leaf and subleaf.
    pub fn none(leaf: u32, subleaf: u32) -> Self {
        let [eax, ebx, ecx, edx] = [RegisterChange::default(); 4];
        CpuidChange { leaf, subleaf, eax, ebx, ecx, edx, plugins: Vec::new() }
    }

    /// The registers in the order EAX, EBX, ECX, EDX.
    pub fn registers(&self) -> [RegisterChange; 4] {
        [self.eax, self.ebx, self.ecx, self.edx]
    }

    /// The registers in the order EAX, EBX, ECX, EDX.
    pub fn registers_mut(&mut self) -> [&mut RegisterChange; 4] {
        [&mut self.eax, &mut self.ebx, &mut self.ecx, &mut self.edx]
    }
}
