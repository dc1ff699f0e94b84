//! Opens `/dev/kvm` and checks that it can do what wasmsr needs.

use std::fmt;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

/// Why this machine's KVM cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvmError {
    /// There is no `/dev/kvm`, or no driver behind it.
    NoDevice,
    /// This user may not open it.
    NoPermission,
    /// Something else keeps it from opening.
    Open(kvm_ioctls::Error),
    /// Something else lies there.
    NotKvm,
    /// Not the stable API, which has been version 12 since Linux 2.6.22.
    ApiVersion(i32),
    /// The kernel is too old or built without something.
    Lacks(Vec<KvmCap>),
}

/// Something that KVM may be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvmCap {
    /// The constant in the kernel's `kvm.h`.
    pub name: &'static str,
    /// The first kernel with it on x86.
    pub since: &'static str,
}

impl std::error::Error for KvmError {}

impl fmt::Display for KvmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause(), self.remedy())
    }
}

impl KvmError {
    /// What is wrong.
    pub fn cause(&self) -> String {
        match self {
            Self::NoDevice => "/dev/kvm does not exist".to_owned(),
            Self::NoPermission => "no permission to open /dev/kvm".to_owned(),
            Self::Open(error) => format!("cannot open /dev/kvm: {error}"),
            Self::NotKvm => "/dev/kvm is not KVM's device".to_owned(),
            Self::ApiVersion(version) => {
                format!("/dev/kvm speaks API version {version}, wasmsr needs version 12")
            }
            Self::Lacks(capabilities) => {
                let all: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
                format!("the KVM of this kernel lacks {}", all.join(", "))
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoDevice => {
                "turn virtualisation on in the firmware and load kvm-intel or kvm-amd, or use the \
                 software host: `cargo xtask nested`"
            }
            Self::NoPermission => "join the group that owns it (often `kvm`) or run as root",
            Self::Open(error) => remedy(error.errno()),
            Self::NotKvm => {
                "restore it (`mknod /dev/kvm c 10 232`, or load kvm-intel or kvm-amd anew), or use \
                 the software host: `cargo xtask nested`"
            }
            Self::ApiVersion(_) => "use a current kernel",
            Self::Lacks(_) => "use a newer kernel, or the software host: `cargo xtask nested`",
        }
    }
}

impl fmt::Display for KvmCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (Linux has it since {})", self.name, self.since)
    }
}

/// What to do if KVM refuses something that wasmsr needs.
pub(crate) fn remedy(errno: i32) -> &'static str {
    match errno {
        libc::EBUSY => {
            "end the hypervisor that holds the processor's virtualisation, such as VirtualBox or \
             VMware"
        }
        libc::ENOMEM => "free memory, or raise the limit of this control group",
        libc::EMFILE | libc::ENFILE => "raise the limit of open files (`ulimit -n`)",
        libc::EACCES | libc::EPERM => {
            "let this process use KVM: a container, seccomp or SELinux forbids it"
        }
        libc::EINVAL | libc::ENOTTY | libc::ENOSYS | libc::E2BIG => "use a newer kernel",
        _ => "look at the kernel's log (`dmesg`)",
    }
}

/// Opens `/dev/kvm` with everything that a VM of ours needs.
///
/// # Errors
/// [`KvmError`] names what is missing and what to do about it.
pub fn open() -> Result<Kvm, KvmError> {
    let kvm = open_device()?;
    match lacking(&kvm) {
        lacks if lacks.is_empty() => Ok(kvm),
        lacks => Err(KvmError::Lacks(lacks)),
    }
}

/// Opens `/dev/kvm` without a look at its capabilities.
pub(crate) fn open_device() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(cannot_open)?;
    match kvm.get_api_version() {
        12 => Ok(kvm),
        ..0 => Err(KvmError::NotKvm),
        version => Err(KvmError::ApiVersion(version)),
    }
}

/// What wasmsr needs and this KVM cannot do.
pub(crate) fn lacking(kvm: &Kvm) -> Vec<KvmCap> {
    let lacks = REQUIRED.iter().filter(|(cap, ..)| !kvm.check_extension(*cap));
    lacks.map(|&(_, name, since)| KvmCap { name, since }).collect()
}

/// Whether this KVM interprets the guest's ring-0 code instead of running it
/// on the processor: the page-table-based backend, for machines without
/// virtualisation. It lacks instructions that a stock kernel needs.
pub(crate) fn interprets_ring0() -> bool {
    Path::new("/sys/module/kvm_pvm").exists()
}

const REQUIRED: &[(Cap, &str, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY", "2.6.25"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR", "2.6.25"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID", "2.6.26"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP", "2.6.25"),
    (Cap::Irqfd, "KVM_CAP_IRQFD", "2.6.32"),
    (Cap::Pit2, "KVM_CAP_PIT2", "2.6.32"),
    (Cap::MpState, "KVM_CAP_MP_STATE", "2.6.26"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT", "4.12"),
    (Cap::X86UserSpaceMsr, "KVM_CAP_X86_USER_SPACE_MSR", "5.10"),
    (Cap::X86MsrFilter, "KVM_CAP_X86_MSR_FILTER", "5.10"),
];

fn cannot_open(error: kvm_ioctls::Error) -> KvmError {
    match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmError::NoDevice,
        libc::EACCES | libc::EPERM => KvmError::NoPermission,
        _ => KvmError::Open(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: &KvmError, cause: &str, remedy: &str) {
        assert!(error.cause().contains(cause), "{error}");
        assert!(error.remedy().contains(remedy), "{error}");
        assert_eq!(error.to_string(), format!("{}; {}", error.cause(), error.remedy()));
    }

    #[test]
    fn an_error_names_cause_and_remedy() {
        let opening = |errno| cannot_open(kvm_ioctls::Error::new(errno));
        check(&opening(libc::ENOENT), "does not exist", "cargo xtask nested");
        check(&opening(libc::ENODEV), "does not exist", "load kvm-intel");
        check(&opening(libc::EACCES), "no permission", "join the group");
        check(&opening(libc::EMFILE), "cannot open", "ulimit -n");
        check(&opening(libc::EBUSY), "cannot open", "VirtualBox");
        check(&opening(libc::EIO), "cannot open", "dmesg");
        check(&KvmError::NotKvm, "is not KVM's device", "mknod");
        check(&KvmError::ApiVersion(11), "version 11", "current kernel");
    }

    #[test]
    fn all_that_is_lacking_is_named() {
        let lacks = [("KVM_CAP_A", "5.10"), ("KVM_CAP_B", "4.12")];
        let lacks = lacks.map(|(name, since)| KvmCap { name, since }).to_vec();
        let all = "lacks KVM_CAP_A (Linux has it since 5.10), KVM_CAP_B (Linux has it since 4.12)";
        check(&KvmError::Lacks(lacks), all, "newer kernel");
    }
}
