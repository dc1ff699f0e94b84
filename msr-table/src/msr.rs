//! What is known of an MSR.

use core::fmt;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Msr {
    /// The guest's ECX.
    pub index: u32,
    /// The name in the SDM (volume 4), in AMD's APM (volume 2, appendix A), the TLFS, or else
    /// in the kernel's `msr-index.h` and `kvm_para.h`.
    pub name: &'static str,
    /// What other manuals and the kernel call it.
    pub aliases: &'static [&'static str],
    /// Whose processors or hypervisor have it.
    pub vendor: Vendor,
    /// Which instructions the processor accepts.
    pub access: Access,
    /// Bits that are #GP when a guest sets them, where known; those above the processor's
    /// physical addresses are not among them.
    pub reserved: Option<u64>,
    /// What shares one register, where known.
    pub scope: Option<Scope>,
    /// Whether KVM emulates it.
    pub kvm: Kvm,
    /// How `KVM_GET_MSRS` and `KVM_SET_MSRS` differ from a guest's access, where they do.
    pub host: Option<&'static str>,
    /// What else one should know.
    pub note: Option<&'static str>,
    /// What guests use it for, or which do.
    pub wanted: Option<&'static str>,
    /// Where this is written, with the edition.
    pub source: &'static str,
}

/// Whose MSR it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Vendor {
    /// Intel's processors.
    Intel,
    /// AMD's processors.
    Amd,
    /// Intel's and AMD's, with the same meaning.
    Both,
    /// Microsoft's hypervisor interface, which KVM can offer.
    HyperV,
    /// KVM's own interface for guests.
    Kvm,
    /// Processors of others, or ones that are gone.
    Other,
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Vendor::Intel => "Intel",
            Vendor::Amd => "AMD",
            Vendor::Both => "Intel and AMD",
            Vendor::HyperV => "Hyper-V",
            Vendor::Kvm => "KVM",
            Vendor::Other => "other processors",
        })
    }
}

/// Which instructions a processor accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// `rdmsr`; a write is #GP or ignored.
    Read,
    /// `wrmsr`; a read is #GP.
    Write,
    /// Both.
    ReadWrite,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Access::Read => "read only",
            Access::Write => "write only",
            Access::ReadWrite => "read and write",
        })
    }
}

/// What shares one register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Each logical processor has its own.
    Thread,
    /// The threads of a core share it.
    Core,
    /// The cores of a module share it.
    Module,
    /// The cores of a package share it.
    Package,
    /// The vCPUs of a VM share it.
    Vm,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Scope::Thread => "thread",
            Scope::Core => "core",
            Scope::Module => "module",
            Scope::Package => "package",
            Scope::Vm => "VM",
        })
    }
}

/// What KVM does with a guest's access, if no filter takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kvm {
    /// It emulates the MSR, or lets the guest reach the processor's.
    Yes,
    /// It does not know the MSR.
    No,
    /// It reads as a fixed value, and does nothing.
    Stub,
    /// It emulates the MSR if this holds.
    If(&'static str),
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kvm::Yes => f.pad("yes"),
            Kvm::No => f.pad("no"),
            Kvm::Stub => f.pad("a stub with a fixed value"),
            Kvm::If(condition) => write!(f, "if {condition}"),
        }
    }
}
