//! Whether this host can run a VM of ours, point by point. Here is what is looked at;
//! `verdict` says what follows from it.

mod deadline;
mod finding;
mod verdict;

use std::fs;
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};
use wasmsr_interface::{Directions, ExitClaim, ExitList, MsrIndex, MsrRange};
use wasmsr_kvm::filter::{KvmFilter, MAX_MSRS_PER_RANGE, MAX_RANGES};
use wasmsr_kvm::{enable_msr_exits, ignores_unknown_msrs};

use crate::backend::backend;
use crate::kvm;

pub use finding::{Finding, Fitness};
use verdict::{FilterRefusal, Vcpus};

/// Looks at the kernel, `/dev/kvm` and what is behind it. Makes a VM to try the
/// MSR filter's limits, and runs a guest of a few instructions in another one.
pub fn survey() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    let device = kvm::open_device();
    let lacks = device.as_ref().ok().map(kvm::lacking);
    let mut findings = vec![
        verdict::kernel(release.as_deref().map(str::trim), lacks.as_deref()),
        verdict::device(device.as_ref().err()),
    ];
    if let Some(lacks) = lacks {
        findings.push(verdict::capabilities(lacks));
    }
    if let Ok(kvm) = &device {
        findings.push(verdict::filter(try_filter(kvm)));
        findings.push(verdict::deadline(&deadline::try_write(kvm)));
        findings.push(verdict::vcpus(&vcpus(kvm)));
    }
    findings.extend([
        verdict::backend(backend(Path::new("/sys/module")), device.as_ref().err()),
        verdict::ignore_msrs(&ignores_unknown_msrs()),
        verdict::host_msrs(&fs::File::open("/dev/cpu/0/msr").map(drop)),
    ]);
    findings
}

/// Installs as much as a filter may hold, in a VM of its own.
fn try_filter(kvm: &Kvm) -> Result<(), FilterRefusal> {
    // Apart from each other, and from the x2APIC MSRs, which no filter covers.
    let claims = (1..=MAX_RANGES).filter_map(|number| {
        let first = u32::try_from(number).ok()? << 16;
        let last = first + MAX_MSRS_PER_RANGE - 1;
        let range = MsrRange::new(MsrIndex(first), MsrIndex(last))?;
        Some(ExitClaim::new("doctor", range, Directions::ReadWrite))
    });
    let list = ExitList::from(claims.collect::<Vec<_>>());
    let packed = KvmFilter::pack(&list).map_err(|error| FilterRefusal::Pack(error.to_string()))?;
    let vm = kvm.create_vm().map_err(FilterRefusal::CreateVm)?;
    enable_msr_exits(&vm).map_err(|refused| FilterRefusal::Exits(refused.error.into()))?;
    packed.install(&vm).map_err(|refused| FilterRefusal::Filter(refused.error.into()))
}

fn vcpus(kvm: &Kvm) -> Vcpus {
    Vcpus {
        most: kvm.get_max_vcpus(),
        advised: kvm.get_nr_vcpus(),
        has_deadline_timer: kvm.check_extension(Cap::TscDeadlineTimer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_is_there_once_and_says_what_to_do() {
        let findings = survey();
        let mut points: Vec<&str> = findings.iter().map(|finding| finding.what).collect();
        assert!(points.starts_with(&["kernel", "/dev/kvm"]));
        points.sort_unstable();
        points.dedup();
        assert_eq!(points.len(), findings.len());
        for finding in findings {
            let is_good = finding.verdict == Fitness::Good;
            assert_eq!(finding.remedy.is_none(), is_good, "{finding:?}");
        }
    }
}
