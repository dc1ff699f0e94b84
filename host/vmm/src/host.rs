//! What the plugins' host calls reach: guest memory, time, KVM's own MSRs and
//! the physical host.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use kvm_bindings::KVM_CLOCK_TSC_STABLE;
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, MsrIndex, OutsideMemory, VcpuId, VcpuTimes,
};

use crate::alarms::Alarms;
use crate::filter::KvmFilter;
use crate::host_msrs::HostMsrs;
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::scheduler::{self, VcpuThreads};

/// What a running VM is asked for.
pub(crate) trait VmCalls: Send + Sync {
    /// Puts a filter in the place of the VM's present one.
    fn install(&self, filter: &KvmFilter) -> Result<(), kvm_ioctls::Error>;

    /// Whether KVM's own clock would be the same on all vCPUs.
    fn tsc_is_stable(&self) -> bool;
}

impl VmCalls for VmFd {
    fn install(&self, filter: &KvmFilter) -> Result<(), kvm_ioctls::Error> {
        filter.install(self)
    }

    fn tsc_is_stable(&self) -> bool {
        self.get_clock().is_ok_and(|clock| clock.flags & KVM_CLOCK_TSC_STABLE != 0)
    }
}

/// The VM as the engine sees it.
pub(crate) struct VmHost {
    vm: Arc<dyn VmCalls>,
    memory: GuestMemoryMmap,
    /// In the order of vCPUs.
    msrs: Vec<Arc<KvmMsrs>>,
    tsc_khz: u32,
    alarms: Alarms,
    threads: VcpuThreads,
    host_msrs: HostMsrs,
    host_cpus: u32,
}

impl VmHost {
    pub(crate) fn new(
        vm: Arc<dyn VmCalls>,
        memory: GuestMemoryMmap,
        msrs: Vec<Arc<KvmMsrs>>,
        tsc_khz: u32,
    ) -> Self {
        VmHost {
            vm,
            memory,
            tsc_khz,
            alarms: Alarms::new(msrs.len()),
            threads: VcpuThreads::new(msrs.len()),
            msrs,
            host_msrs: HostMsrs::new(),
            host_cpus: scheduler::online_cpus(),
        }
    }

    /// The threads that run the vCPUs.
    pub(crate) fn threads(&self) -> &VcpuThreads {
        &self.threads
    }

    /// When plugins want to be called.
    pub(crate) fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    fn msrs(&self, vcpu: VcpuId) -> Option<&KvmMsrs> {
        self.msrs.get(usize::try_from(vcpu.0).ok()?).map(Arc::as_ref)
    }

    fn check(&self, gpa: u64, len: usize) -> Result<GuestAddress, OutsideMemory> {
        let address = GuestAddress(gpa);
        match len == 0 || self.memory.check_range(address, len) {
            true => Ok(address),
            false => Err(OutsideMemory { gpa, len }),
        }
    }
}

impl Host for VmHost {
    /// Asks KVM each time: the guest may write its TSC.
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.kvm_msr(vcpu, IA32_TSC).unwrap_or(0)
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn monotonic_ns(&self) -> u64 {
        self.alarms.now()
    }

    fn tsc_is_stable(&self) -> bool {
        self.vm.tsc_is_stable()
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.threads.times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let len = out.len();
        let address = self.check(gpa, len)?;
        self.memory.read_slice(out, address).map_err(|_| OutsideMemory { gpa, len })
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let len = data.len();
        let address = self.check(gpa, len)?;
        self.memory.write_slice(data, address).map_err(|_| OutsideMemory { gpa, len })
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex) -> Option<u64> {
        self.msrs(vcpu)?.read(index)
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64) -> bool {
        self.msrs(vcpu).is_some_and(|msrs| msrs.write(index, value))
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.host_msrs.read(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.host_cpus
    }

    /// A pipe that nobody writes to, or a terminal, reads as empty or not at
    /// all: it must not hold the vCPU.
    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).ok()? {
                0 => break,
                more => filled += more,
            }
        }
        Some(filled)
    }

    fn set_exits(&self, exits: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        let filter = KvmFilter::pack(exits).map_err(|error| ExitsRefused(error.to_string()))?;
        self.vm.install(&filter).map_err(|error| ExitsRefused(error.to_string()))
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.alarms.set(vcpu, at);
    }
}

const IA32_TSC: MsrIndex = MsrIndex(0x10);

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: u64 = 0x2000;

    struct NoVm;

    impl VmCalls for NoVm {
        fn install(&self, _: &KvmFilter) -> Result<(), kvm_ioctls::Error> {
            Ok(())
        }

        fn tsc_is_stable(&self) -> bool {
            false
        }
    }

    fn host() -> VmHost {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap();
        VmHost::new(Arc::new(NoVm), memory, Vec::new(), 1_000_000)
    }

    #[test]
    fn memory_is_read_as_written() {
        let host = host();
        assert_eq!(host.write_memory(RAM - 4, b"abcd"), Ok(()));
        let mut out = [0; 4];
        assert_eq!(host.read_memory(RAM - 4, &mut out), Ok(()));
        assert_eq!(&out, b"abcd");
    }

    #[test]
    fn a_range_that_leaves_ram_writes_nothing() {
        let host = host();
        let outside = OutsideMemory { gpa: RAM - 2, len: 4 };
        assert_eq!(host.write_memory(RAM - 2, b"abcd"), Err(outside));
        let mut out = [0xff; 2];
        assert_eq!(host.read_memory(RAM - 2, &mut out), Ok(()));
        assert_eq!(out, [0, 0]);
    }

    #[test]
    fn addresses_do_not_wrap() {
        let mut out = [0; 8];
        assert!(host().read_memory(u64::MAX - 3, &mut out).is_err());
        assert!(host().read_memory(u64::MAX, &mut []).is_ok(), "nothing is nowhere");
    }

    #[test]
    fn a_file_is_read_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("energy_uj");
        std::fs::write(&path, "12345\n").unwrap();
        let mut out = [0; 8];
        assert_eq!(host().read_host_file(&path, &mut out), Some(6));
        assert_eq!(&out, b"12345\n\0\0");
        assert_eq!(host().read_host_file(&path, &mut out[..3]), Some(3));
        assert_eq!(host().read_host_file(directory.path(), &mut out), None, "a folder");
        assert_eq!(host().read_host_file(&directory.path().join("none"), &mut out), None);
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_holds_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(host().read_host_file(&path, &mut [0; 8]), Some(0));
    }

    #[test]
    fn exits_that_no_filter_holds_are_refused_with_the_reason() {
        let range = "0x10000-0x100000".parse().unwrap();
        let directions = wasmsr_interface::Directions::Read;
        let claims = vec![wasmsr_interface::ExitClaim { plugin: "p".into(), range, directions }];
        let error = host().set_exits(&ExitList { claims }, &ExitsCause::Reset).unwrap_err();
        assert!(error.to_string().contains("plugin `p`"), "{error}");
    }

    #[test]
    fn a_vcpu_that_does_not_exist_has_no_msrs() {
        assert_eq!(host().kvm_msr(VcpuId(0), IA32_TSC), None);
        assert!(!host().set_kvm_msr(VcpuId(7), IA32_TSC, 1));
        assert_eq!(host().guest_tsc(VcpuId(7)), 0);
    }
}
