//! What plugins' host calls reach on KVM: guest memory, time, KVM's own MSRs and the
//! physical host.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, KvmAnswer, MsrIndex, MsrOp, OutsideMemory,
    VcpuId, VcpuTimes,
};

use crate::alarms::Alarms;
use crate::as_guest::{AsGuest, Site};
use crate::filter::KvmFilter;
use crate::host_msrs::HostMsrs;
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::refused::Refused;
use crate::vcpu_threads::VcpuThreads;
use crate::{host_cpus, host_file, ioctl, registers, tsc};

/// Guest memory, as the VMM has it. It is asked for one byte at least.
pub trait GuestRam: Send + Sync {
    /// First guest-physical address and length in bytes of each piece of RAM; both are
    /// multiples of the page size.
    fn ranges(&self) -> Vec<(u64, u64)>;

    /// Copies `out.len()` bytes of guest-physical memory at `gpa`.
    ///
    /// # Errors
    /// [`OutsideMemory`] if any byte is not guest RAM; `out` is then unspecified.
    fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory>;

    /// Copies `data` to guest-physical memory at `gpa`.
    ///
    /// # Errors
    /// [`OutsideMemory`] if any byte is not guest RAM; nothing is then written.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory>;
}

/// A VM on KVM as the engine sees it: the whole of [`Host`].
#[derive(Debug)]
pub struct KvmHost<R> {
    vm: OwnedFd,
    ram: R,
    /// In the order of vCPUs.
    as_guest: Vec<AsGuest>,
    /// The same for kernel shadows; no second VM is made before the first question.
    questions: Vec<AsGuest>,
    tsc_khz: u32,
    alarms: Alarms,
    threads: VcpuThreads,
    host_msrs: HostMsrs,
    host_cpus: u32,
}

impl<R: GuestRam> KvmHost<R> {
    /// The VM with this descriptor, of which it makes a second one, its vCPUs in their
    /// order, and its memory. `kvm` is `/dev/kvm`: [`AsGuest`] makes VMs of its own.
    ///
    /// # Errors
    /// [`Refused`] if the process may open no more descriptors, or if the host's TSC has
    /// no frequency.
    pub fn new(
        kvm: &impl AsRawFd,
        vm: &impl AsRawFd,
        msrs: &[KvmMsrs],
        ram: R,
    ) -> Result<Self, Refused> {
        let vm = ioctl::duplicate(vm)
            .map_err(|error| Refused { step: "duplicate a VM's descriptor", error })?;
        let kvm = ioctl::duplicate(kvm)
            .map_err(|error| Refused { step: "duplicate the descriptor of /dev/kvm", error })?;
        let local_apic = msrs.first().is_some_and(registers::has_local_apic);
        let site = Arc::new(Site { kvm, ram: ram.ranges(), local_apic });
        let as_guest = msrs.iter().map(|msrs| AsGuest::of(msrs.clone(), Arc::clone(&site)));
        let questions = msrs.iter().map(|m| AsGuest::for_questions(m.clone(), Arc::clone(&site)));
        let tsc_khz = msrs.first().map_or(Ok(0), tsc::khz)?;
        Ok(KvmHost {
            vm,
            ram,
            as_guest: as_guest.collect(),
            questions: questions.collect(),
            tsc_khz,
            alarms: Alarms::new(msrs.len()),
            threads: VcpuThreads::new(msrs.len()),
            host_msrs: HostMsrs::new(),
            host_cpus: host_cpus::online(),
        })
    }

    /// When plugins want to be called.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Says that the calling thread runs `vcpu` from now on, which is what
    /// [`vcpu_times`](Host::vcpu_times) needs to know.
    pub fn enter_thread(&self, vcpu: VcpuId) {
        self.threads.enter(vcpu);
    }

    /// KVM's answers to the guest's own accesses on `vcpu`, for
    /// [`KvmRun::complete`](crate::KvmRun::complete); `None` if there is no such vCPU.
    pub fn as_guest(&self, vcpu: VcpuId) -> Option<&AsGuest> {
        self.as_guest.get(usize::try_from(vcpu.0).ok()?)
    }

    fn msrs(&self, vcpu: VcpuId) -> Option<&KvmMsrs> {
        self.as_guest(vcpu).map(AsGuest::msrs)
    }

    fn kernel(&self, vcpu: VcpuId, initiator: Initiator) -> Option<&dyn KernelMsrs> {
        match initiator {
            Initiator::Host => self.msrs(vcpu).map(|msrs| msrs as &dyn KernelMsrs),
            Initiator::Guest => self.as_guest(vcpu).map(|msrs| msrs as &dyn KernelMsrs),
        }
    }
}

impl<R: GuestRam> Host for KvmHost<R> {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.msrs(vcpu).and_then(tsc::now).unwrap_or(0)
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn monotonic_ns(&self) -> u64 {
        self.alarms.now()
    }

    fn tsc_is_stable(&self) -> bool {
        tsc::is_stable(&self.vm)
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        registers::rip(self.msrs(vcpu)?)
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.threads.times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        match out {
            [] => Ok(()),
            out => self.ram.read(gpa, out),
        }
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        match data {
            [] => Ok(()),
            data => self.ram.write(gpa, data),
        }
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        self.kernel(vcpu, initiator)?.read(index)
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        self.kernel(vcpu, initiator).is_some_and(|msrs| msrs.write(index, value))
    }

    fn ask_kvm(&self, vcpu: VcpuId, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        let place = usize::try_from(vcpu.0).ok();
        match place.and_then(|place| self.questions.get(place)) {
            Some(kernel) => kernel.would(index, op, held),
            None => KvmAnswer::NotComparable,
        }
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.host_msrs.read(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.host_cpus
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        host_file::read(path, out)
    }

    fn check_exits(&self, exits: &ExitList) -> Result<(), ExitsRefused> {
        KvmFilter::pack(exits).map(drop).map_err(|error| ExitsRefused(error.to_string()))
    }

    fn set_exits(&self, exits: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        let filter = KvmFilter::pack(exits).map_err(|error| ExitsRefused(error.to_string()))?;
        filter.install(&self.vm).map_err(|refused| ExitsRefused(refused.error.to_string()))
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.alarms.set(vcpu, at);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[derive(Debug)]
    struct NoRam;

    impl GuestRam for NoRam {
        fn ranges(&self) -> Vec<(u64, u64)> {
            Vec::new()
        }

        fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
            Err(OutsideMemory { gpa, len: out.len() })
        }

        fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
            Err(OutsideMemory { gpa, len: data.len() })
        }
    }

    /// Not a VM, and without vCPUs.
    fn host() -> KvmHost<NoRam> {
        let null = File::open("/dev/null").unwrap();
        KvmHost::new(&null, &null, &[], NoRam).unwrap()
    }

    #[test]
    fn exits_that_no_filter_holds_are_refused_with_the_reason() {
        let range = "0x10000-0x100000".parse().unwrap();
        let directions = wasmsr_interface::Directions::Read;
        let claims = vec![wasmsr_interface::ExitClaim::new("p", range, directions)];
        let error = host().set_exits(&ExitList::from(claims), &ExitsCause::Reset).unwrap_err();
        assert!(error.to_string().contains("plugin `p`"), "{error}");
    }

    #[test]
    fn what_the_kernel_refuses_is_told() {
        let error = host().set_exits(&ExitList::default(), &ExitsCause::Reset).unwrap_err();
        assert!(error.to_string().contains("os error 25"), "{error}");
        assert!(!host().tsc_is_stable());
    }

    #[test]
    fn no_bytes_are_nowhere_outside_memory() {
        assert_eq!(host().read_memory(u64::MAX, &mut []), Ok(()));
        assert_eq!(host().write_memory(u64::MAX, &[]), Ok(()));
        assert!(host().read_memory(u64::MAX, &mut [0]).is_err());
    }

    #[test]
    fn a_vcpu_that_does_not_exist_has_no_msrs() {
        const IA32_TSC: MsrIndex = MsrIndex(0x10);
        assert_eq!(host().kvm_msr(VcpuId(0), IA32_TSC, Initiator::Host), None);
        assert!(!host().set_kvm_msr(VcpuId(7), IA32_TSC, 1, Initiator::Guest));
        assert_eq!(host().guest_tsc(VcpuId(7)), 0);
        assert_eq!(host().guest_rip(VcpuId(7)), None);
    }
}
