//! Whether this host can run a VM of ours, point by point.

use std::fs;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};
use wasmsr_engine::msr::{Directions, ExitClaim, ExitList, MsrIndex, MsrRange};
use wasmsr_engine::profile::KernelVersion;

use crate::filter::{KvmFilter, MAX_MSRS_PER_RANGE, MAX_RANGES};
use crate::kvm;
use crate::vm::msr_exits;

/// One point of the survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it is.
    pub verdict: Fitness,
    /// What was found, and what to do where that is not well.
    pub found: String,
}

/// How one point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// As wasmsr needs it.
    Good,
    /// wasmsr runs, but not everything does.
    Limited,
    /// Nothing runs.
    Unfit,
}

/// Looks at the kernel, `/dev/kvm` and what is behind it. Makes a VM to try the
/// MSR filter's limits, and runs nothing in it.
pub fn survey() -> Vec<Finding> {
    let mut findings = vec![kernel()];
    match kvm::open() {
        Ok(kvm) => {
            let all = "can be opened, and has every capability that wasmsr needs".to_owned();
            findings.push(Finding { what: "/dev/kvm", verdict: Fitness::Good, found: all });
            findings.push(filter(&kvm));
            findings.push(vcpus(&kvm));
        }
        Err(error) => findings.push(Finding {
            what: "/dev/kvm",
            verdict: Fitness::Unfit,
            found: error.to_string(),
        }),
    }
    findings.extend([backend(), ignore_msrs(), host_msrs()]);
    findings
}

/// The first kernel with MSR exits and filters.
const OLDEST: KernelVersion = KernelVersion { major: 5, minor: 10 };

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let (verdict, found) = match release.parse::<KernelVersion>() {
        Ok(version) if version >= OLDEST => (Fitness::Good, format!("Linux {release}")),
        Ok(_) => {
            (Fitness::Unfit, format!("Linux {release} has no MSR filter; use {OLDEST} or later"))
        }
        Err(_) => {
            (Fitness::Limited, format!("`{release}` is no version of Linux that wasmsr knows"))
        }
    };
    Finding { what: "kernel", verdict, found }
}

/// As much as a filter may hold, installed in a VM of its own.
fn filter(kvm: &Kvm) -> Finding {
    // Apart from each other, and from the x2APIC MSRs, which no filter covers.
    let claims = (1..=MAX_RANGES).filter_map(|number| {
        let first = u32::try_from(number).ok()? << 16;
        let last = first + MAX_MSRS_PER_RANGE - 1;
        Some(ExitClaim {
            plugin: "doctor".into(),
            range: MsrRange::new(MsrIndex(first), MsrIndex(last))?,
            directions: Directions::ReadWrite,
        })
    });
    let list = ExitList { claims: claims.collect() };
    let limits = format!("{MAX_RANGES} ranges of {MAX_MSRS_PER_RANGE} MSRs");
    let refused = |step: &str, error: &dyn std::fmt::Display| {
        let found = format!("KVM refuses to {step}: {error}; use a newer kernel");
        Finding { what: "MSR filter", verdict: Fitness::Unfit, found }
    };
    let packed = match KvmFilter::pack(&list) {
        Ok(packed) => packed,
        Err(error) => return refused("pack the largest filter", &error),
    };
    let vm = match kvm.create_vm() {
        Ok(vm) => vm,
        Err(error) => return refused("create a VM", &error),
    };
    if let Err(error) = vm.enable_cap(&msr_exits()) {
        return refused("let MSR accesses exit", &error);
    }
    match packed.install(&vm) {
        Ok(()) => Finding { what: "MSR filter", verdict: Fitness::Good, found: limits },
        Err(error) => refused(&format!("take a filter of {limits}"), &error),
    }
}

fn vcpus(kvm: &Kvm) -> Finding {
    let found = format!("at most {}, {} advised", kvm.get_max_vcpus(), kvm.get_nr_vcpus());
    let deadline = match kvm.check_extension(Cap::TscDeadlineTimer) {
        true => String::new(),
        false => "; no TSC deadline timer, so guests use slower ones".to_owned(),
    };
    Finding { what: "vCPUs", verdict: Fitness::Good, found: found + &deadline }
}

fn backend() -> Finding {
    let loaded = |module: &str| Path::new("/sys/module").join(module).exists();
    let (verdict, found) = if kvm::interprets_ring0() {
        let found = "kvm_pvm, which interprets a guest's ring 0: small guests run, a stock Linux \
                     does not; boot those with `cargo xtask nested`";
        (Fitness::Limited, found)
    } else if loaded("kvm_intel") {
        (Fitness::Good, "kvm_intel (VMX)")
    } else if loaded("kvm_amd") {
        (Fitness::Good, "kvm_amd (SVM)")
    } else {
        let found = "no backend is loaded; turn virtualisation on in the firmware and load \
                     kvm-intel or kvm-amd";
        (Fitness::Limited, found)
    };
    Finding { what: "backend", verdict, found: found.to_owned() }
}

fn ignore_msrs() -> Finding {
    let (verdict, found) = match kvm::ignores_unknown_msrs() {
        false => (Fitness::Good, "off"),
        true => (
            Fitness::Limited,
            "on: the kernel answers unknown MSRs itself, and neither policy nor [unhandled] \
             plugins see them; `echo N > /sys/module/kvm/parameters/ignore_msrs`",
        ),
    };
    Finding { what: "kvm.ignore_msrs", verdict, found: found.to_owned() }
}

fn host_msrs() -> Finding {
    let (verdict, found) = match fs::File::open("/dev/cpu/0/msr") {
        Ok(_) => (Fitness::Good, "can be read by plugins with a `host-msr` grant".to_owned()),
        Err(error) => (
            Fitness::Limited,
            format!(
                "/dev/cpu/0/msr cannot be opened ({error}), so no plugin can be given `host-msr`; \
                 load the kernel module `msr` and run with CAP_SYS_RAWIO"
            ),
        ),
    };
    Finding { what: "host's MSRs", verdict, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_is_there_once_and_says_something() {
        let findings = survey();
        let mut points: Vec<&str> = findings.iter().map(|finding| finding.what).collect();
        assert!(points.starts_with(&["kernel", "/dev/kvm"]));
        points.sort_unstable();
        points.dedup();
        assert_eq!(points.len(), findings.len());
        assert!(findings.iter().all(|finding| !finding.found.is_empty()));
    }
}
