//! What follows from what was seen of a host. Pure functions, one per point.

use std::io;

use wasmsr_interface::KernelVersion;
use wasmsr_kvm::filter::{MAX_MSRS_PER_RANGE, MAX_RANGES};

use super::deadline::Tried;
use super::finding::Finding;
use crate::backend::Backend;
use crate::kvm::{self, KvmCap, KvmError};

/// The first kernel with MSR exits and filters.
const OLDEST: KernelVersion = KernelVersion { major: 5, minor: 10 };

/// The release that the kernel names. It is a hint only: distributions take a
/// newer KVM into an older kernel, so KVM's capabilities decide where they are
/// known.
pub(super) fn kernel(release: Option<&str>, lacks: Option<&[KvmCap]>) -> Finding {
    const WHAT: &str = "kernel";
    const SO: &str = "so no plugin yields its MSRs (`kernel-from`)";
    let Some(release) = release else {
        let found = format!("/proc/sys/kernel/osrelease cannot be read, {SO}");
        return Finding::limited(WHAT, found, "mount procfs: `mount -t proc proc /proc`");
    };
    match release.parse::<KernelVersion>() {
        Ok(version) if version >= OLDEST => Finding::good(WHAT, format!("Linux {release}")),
        Ok(_) if lacks.is_some_and(<[_]>::is_empty) => {
            Finding::good(WHAT, format!("Linux {release}, with a KVM from {OLDEST} or later"))
        }
        Ok(_) => Finding::limited(
            WHAT,
            format!("Linux {release}; KVM lets MSR accesses exit since {OLDEST}"),
            format!("use Linux {OLDEST} or later, or a distribution's with a KVM that new"),
        ),
        Err(_) => Finding::limited(
            WHAT,
            format!("`{release}` is not a version of Linux that wasmsr knows, {SO}"),
            "use a kernel whose release begins with a version, such as 6.12",
        ),
    }
}

/// `/dev/kvm`, and why it cannot be used.
pub(super) fn device(error: Option<&KvmError>) -> Finding {
    const WHAT: &str = "/dev/kvm";
    match error {
        None => Finding::good(WHAT, "is KVM's device, and this user may open it"),
        Some(error) => Finding::unfit(WHAT, error.cause(), error.remedy()),
    }
}

/// What KVM cannot do of what wasmsr needs.
pub(super) fn capabilities(lacks: Vec<KvmCap>) -> Finding {
    const WHAT: &str = "capabilities";
    if lacks.is_empty() {
        return Finding::good(WHAT, "all that wasmsr needs of KVM");
    }
    let error = KvmError::Lacks(lacks);
    Finding::unfit(WHAT, error.cause(), error.remedy())
}

/// Where the largest filter was refused.
pub(super) enum FilterRefusal {
    Pack(String),
    CreateVm(kvm_ioctls::Error),
    Exits(kvm_ioctls::Error),
    Filter(kvm_ioctls::Error),
}

/// What came of the largest filter.
pub(super) fn filter(tried: Result<(), FilterRefusal>) -> Finding {
    const WHAT: &str = "MSR filter";
    let limits = format!("{MAX_RANGES} ranges of {MAX_MSRS_PER_RANGE} MSRs");
    let (step, error) = match tried {
        Ok(()) => return Finding::good(WHAT, limits),
        Err(FilterRefusal::Pack(error)) => {
            let found = format!("wasmsr cannot pack {limits}: {error}");
            return Finding::unfit(WHAT, found, "report it, it is a bug of wasmsr");
        }
        Err(FilterRefusal::CreateVm(error)) => ("create a VM".to_owned(), error),
        Err(FilterRefusal::Exits(error)) => ("let MSR accesses exit".to_owned(), error),
        Err(FilterRefusal::Filter(error)) => (format!("take a filter of {limits}"), error),
    };
    let found = format!("KVM refuses to {step}: {error}");
    Finding::unfit(WHAT, found, kvm::remedy(error.errno()))
}

/// Whether a claim of writes of IA32_TSC_DEADLINE is honoured.
pub(super) fn deadline(tried: &Tried) -> Finding {
    const WHAT: &str = "TSC deadline";
    const HIDE: &str = "where a plugin claims them, clear bit 24 of ECX in CPUID leaf 0x1 with a \
                        [[cpuid]] table, so that the guest uses another timer";
    match tried {
        Tried::Exited => {
            Finding::good(WHAT, "a guest's writes of 0x6e0 exit if a plugin claims them")
        }
        Tried::Stayed => Finding::limited(
            WHAT,
            "KVM takes a guest's writes of 0x6e0 (IA32_TSC_DEADLINE) before it looks at the \
             filter: no plugin sees them",
            HIDE,
        ),
        Tried::Refused => Finding::limited(
            WHAT,
            "KVM refuses a guest's writes of 0x6e0 (IA32_TSC_DEADLINE) before it looks at the \
             filter: no plugin sees them",
            HIDE,
        ),
        Tried::Failed(why) => Finding::limited(
            WHAT,
            format!("whether a guest's writes of 0x6e0 exit cannot be tried: {why}"),
            "try a guest: `wasmsr run examples/hello/vm.toml`",
        ),
    }
}

/// What KVM says of vCPUs.
pub(super) struct Vcpus {
    pub(super) most: usize,
    pub(super) advised: usize,
    pub(super) has_deadline_timer: bool,
}

/// How many there can be, and how good their timers.
pub(super) fn vcpus(vcpus: &Vcpus) -> Finding {
    const WHAT: &str = "vCPUs";
    let found = format!("at most {}, {} advised", vcpus.most, vcpus.advised);
    match vcpus.has_deadline_timer {
        true => Finding::good(WHAT, found),
        false => Finding::limited(
            WHAT,
            format!("{found}; no TSC deadline timer, so guests use slower ones"),
            "use a newer kernel, or let the hypervisor below this host offer that timer",
        ),
    }
}

/// The backend, beside what became of opening `/dev/kvm`.
pub(super) fn backend(backend: Backend, device: Option<&KvmError>) -> Finding {
    const WHAT: &str = "backend";
    match (backend, device) {
        (Backend::Intel, _) => Finding::good(WHAT, "kvm_intel (VMX)"),
        (Backend::Amd, _) => Finding::good(WHAT, "kvm_amd (SVM)"),
        (Backend::Pvm, _) => Finding::limited(
            WHAT,
            "kvm_pvm, which interprets a guest's ring 0: small guests run, a stock Linux does not",
            "boot stock kernels on a host with virtualisation, or with `cargo xtask nested`",
        ),
        (Backend::None, Some(_)) => Finding::limited(
            WHAT,
            "none is loaded",
            "turn virtualisation on in the firmware and load kvm-intel or kvm-amd",
        ),
        (Backend::None, None) => Finding::limited(
            WHAT,
            "unknown: KVM is there, but none of kvm_intel, kvm_amd and kvm_pvm",
            "try a guest: `wasmsr run examples/hello/vm.toml`",
        ),
        (Backend::Unseen, _) => {
            Finding::limited(WHAT, "unknown: /sys/module cannot be read", MOUNT_SYSFS)
        }
    }
}

const MOUNT_SYSFS: &str = "mount sysfs: `mount -t sysfs sysfs /sys`";

/// Whether the kernel keeps unknown MSRs to itself.
pub(super) fn ignore_msrs(set: &io::Result<bool>) -> Finding {
    const WHAT: &str = "kvm.ignore_msrs";
    match set {
        Ok(false) => Finding::good(WHAT, "off"),
        Ok(true) => Finding::limited(
            WHAT,
            "on: the kernel answers unknown MSRs itself, and neither policy nor [unhandled] \
             plugins see them",
            "`echo N > /sys/module/kvm/parameters/ignore_msrs`",
        ),
        Err(error) => {
            let found =
                format!("unknown: /sys/module/kvm/parameters/ignore_msrs cannot be read ({error})");
            Finding::limited(WHAT, found, format!("load the kernel module kvm, and {MOUNT_SYSFS}"))
        }
    }
}

/// Whether plugins can be given the host's MSRs.
pub(super) fn host_msrs(opened: &io::Result<()>) -> Finding {
    const WHAT: &str = "host's MSRs";
    let Err(error) = opened else {
        return Finding::good(WHAT, "can be read by plugins with a `host-msr` grant");
    };
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "load the kernel module: `modprobe msr`",
        io::ErrorKind::PermissionDenied => {
            "run with CAP_SYS_RAWIO, as a user who may open the file"
        }
        _ => "load the kernel module `msr` and run with CAP_SYS_RAWIO",
    };
    let found =
        format!("/dev/cpu/0/msr cannot be opened ({error}), so no plugin can be given `host-msr`");
    Finding::limited(WHAT, found, remedy)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Fitness::{self, Good, Limited, Unfit};
    use super::*;

    #[track_caller]
    fn check(finding: &Finding, verdict: Fitness, found: &str, remedy: &str) {
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
        assert!(finding.remedy.as_deref().unwrap_or_default().contains(remedy), "{finding:?}");
        assert_eq!(finding.remedy.is_none(), verdict == Good, "{finding:?}");
    }

    const FILTER: KvmCap = KvmCap { name: "KVM_CAP_X86_MSR_FILTER", since: "5.10" };

    #[test]
    fn capabilities_decide_and_the_version_is_a_hint() {
        let backported = "4.18.0-553.el8_10.x86_64";
        check(&kernel(Some("6.12.9"), Some(&[])), Good, "Linux 6.12.9", "");
        check(&kernel(Some("5.10"), None), Good, "Linux 5.10", "");
        check(&kernel(Some(backported), Some(&[])), Good, "a KVM from 5.10 or later", "");
        check(&kernel(Some(backported), Some(&[FILTER])), Limited, "since 5.10", "5.10 or later");
        check(&kernel(Some("4.19"), None), Limited, "since 5.10", "5.10 or later");
        check(&kernel(Some("plan9"), Some(&[])), Limited, "`plan9`", "begins with a version");
        check(&kernel(None, Some(&[])), Limited, "cannot be read", "mount procfs");
    }

    #[test]
    fn a_device_and_what_it_can_do_are_two_points() {
        check(&device(None), Good, "may open it", "");
        check(&device(Some(&KvmError::NoDevice)), Unfit, "does not exist", "firmware");
        check(&device(Some(&KvmError::NoPermission)), Unfit, "no permission", "group");
        check(&capabilities(vec![]), Good, "all that", "");
        let other = KvmCap { name: "KVM_CAP_IRQFD", since: "2.6.32" };
        let both = capabilities(vec![FILTER, other]);
        check(&both, Unfit, "KVM_CAP_X86_MSR_FILTER", "newer kernel");
        check(&both, Unfit, "KVM_CAP_IRQFD (Linux has it since 2.6.32)", "newer kernel");
    }

    #[test]
    fn a_refusal_has_the_remedy_of_its_cause() {
        let error = kvm_ioctls::Error::new;
        check(&filter(Ok(())), Good, "16 ranges of 12288 MSRs", "");
        let busy = filter(Err(FilterRefusal::CreateVm(error(libc::EBUSY))));
        check(&busy, Unfit, "refuses to create a VM", "VirtualBox");
        let full = filter(Err(FilterRefusal::CreateVm(error(libc::ENOMEM))));
        check(&full, Unfit, "refuses to create a VM", "free memory");
        let forbidden = filter(Err(FilterRefusal::CreateVm(error(libc::EPERM))));
        check(&forbidden, Unfit, "refuses to create a VM", "seccomp");
        let old = filter(Err(FilterRefusal::Exits(error(libc::EINVAL))));
        check(&old, Unfit, "let MSR accesses exit", "newer kernel");
        let small = filter(Err(FilterRefusal::Filter(error(libc::EINVAL))));
        check(&small, Unfit, "take a filter of 16", "newer kernel");
    }

    #[test]
    fn a_claim_that_kvm_does_not_honour_is_told() {
        check(&deadline(&Tried::Exited), Good, "0x6e0 exit", "");
        check(&deadline(&Tried::Stayed), Limited, "no plugin sees them", "bit 24 of ECX");
        check(&deadline(&Tried::Refused), Limited, "refuses", "bit 24 of ECX");
        check(&deadline(&Tried::Failed("busy".into())), Limited, "busy", "try a guest");
    }

    #[test]
    fn slow_timers_are_told() {
        let of = |has_deadline_timer| Vcpus { most: 1024, advised: 2, has_deadline_timer };
        check(&vcpus(&of(true)), Good, "at most 1024, 2 advised", "");
        check(&vcpus(&of(false)), Limited, "no TSC deadline timer", "newer kernel");
    }

    #[test]
    fn a_backend_is_not_denied_where_it_cannot_be_seen() {
        let missing = KvmError::NoDevice;
        check(&backend(Backend::Intel, None), Good, "kvm_intel", "");
        check(&backend(Backend::Amd, None), Good, "kvm_amd", "");
        check(&backend(Backend::Pvm, None), Limited, "interprets", "cargo xtask nested");
        check(&backend(Backend::None, Some(&missing)), Limited, "none is loaded", "firmware");
        check(&backend(Backend::None, None), Limited, "KVM is there", "try a guest");
        check(&backend(Backend::Unseen, None), Limited, "cannot be read", "mount sysfs");
    }

    #[test]
    fn a_parameter_that_cannot_be_read_is_not_off() {
        check(&ignore_msrs(&Ok(false)), Good, "off", "");
        check(&ignore_msrs(&Ok(true)), Limited, "on: ", "echo N");
        let unreadable = Err(io::ErrorKind::NotFound.into());
        check(&ignore_msrs(&unreadable), Limited, "cannot be read", "mount sysfs");
    }

    #[test]
    fn the_hosts_msrs_need_a_module_and_a_right() {
        let refused = |kind: io::ErrorKind| host_msrs(&Err(kind.into()));
        check(&host_msrs(&Ok(())), Good, "host-msr", "");
        check(&refused(io::ErrorKind::NotFound), Limited, "/dev/cpu/0/msr", "modprobe msr");
        check(&refused(io::ErrorKind::PermissionDenied), Limited, "host-msr", "CAP_SYS_RAWIO");
    }
}
