//! Opens `/dev/kvm` and checks that it can do what wasmsr needs.

use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

/// Why this machine's KVM cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvmError {
    /// There is no `/dev/kvm`, or no driver behind it.
    #[error(
        "/dev/kvm does not exist; turn virtualisation on in the firmware and load kvm-intel \
         or kvm-amd, or use the software host: `cargo xtask nested`"
    )]
    NoDevice,
    /// This user may not open it.
    #[error(
        "no permission to open /dev/kvm; join the group that owns it (often `kvm`) or run as root"
    )]
    NoPermission,
    /// Something else keeps it from opening.
    #[error("cannot open /dev/kvm: {0}")]
    Open(kvm_ioctls::Error),
    /// Something else lies there.
    #[error(
        "/dev/kvm is not KVM's device; restore it (`mknod /dev/kvm c 10 232`, or load kvm-intel \
         or kvm-amd anew), or use the software host: `cargo xtask nested`"
    )]
    NotKvm,
    /// Not the stable API, which has been version 12 since Linux 2.6.22.
    #[error("/dev/kvm speaks API version {0}, wasmsr needs version 12; use a current kernel")]
    ApiVersion(i32),
    /// The kernel is too old or built without something.
    #[error(
        "the KVM of this kernel lacks {name} (Linux has it since {since}); use a newer kernel, \
         or the software host: `cargo xtask nested`"
    )]
    Capability {
        /// The constant in the kernel's `kvm.h`.
        name: &'static str,
        /// The first kernel with it on x86.
        since: &'static str,
    },
}

/// Opens `/dev/kvm` with everything that a VM of ours needs.
///
/// # Errors
/// [`KvmError`] names what is missing and what to do about it.
pub fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(cannot_open)?;
    match kvm.get_api_version() {
        12 => {}
        ..0 => return Err(KvmError::NotKvm),
        version => return Err(KvmError::ApiVersion(version)),
    }
    for &(cap, name, since) in REQUIRED {
        if !kvm.check_extension(cap) {
            return Err(KvmError::Capability { name, since });
        }
    }
    Ok(kvm)
}

/// Whether this KVM interprets the guest's ring-0 code instead of running it
/// on the processor: the page-table-based backend, for machines without
/// virtualisation. It lacks instructions that a stock kernel needs.
pub(crate) fn interprets_ring0() -> bool {
    Path::new("/sys/module/kvm_pvm").exists()
}

/// Whether `kvm.ignore_msrs` is set, which answers MSRs that KVM does not know
/// inside the kernel: their accesses never exit.
pub(crate) fn ignores_unknown_msrs() -> bool {
    std::fs::read_to_string("/sys/module/kvm/parameters/ignore_msrs")
        .is_ok_and(|value| value.starts_with('Y'))
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
    fn check(errno: i32, cause: &str, remedy: &str) {
        let text = cannot_open(kvm_ioctls::Error::new(errno)).to_string();
        assert!(text.contains(cause) && text.contains(remedy), "{text}");
    }

    #[test]
    fn an_error_names_cause_and_remedy() {
        check(libc::ENOENT, "does not exist", "cargo xtask nested");
        check(libc::ENODEV, "does not exist", "load kvm-intel");
        check(libc::EACCES, "no permission", "join the group");
        check(libc::EMFILE, "cannot open", "");
    }
}
