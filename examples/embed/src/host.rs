//! What the engine may ask of this VMM, most of it for plugins that hold a
//! capability.
#![expect(unsafe_code, reason = "a second descriptor of a vCPU")]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use kvm_bindings::{KVM_CLOCK_TSC_STABLE, Msrs, kvm_msr_entry};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, MsrIndex, OutsideMemory, VcpuId, VcpuTimes,
};

use crate::filter;

/// The VM as plugins see it.
pub(crate) struct KvmHost {
    vm: Arc<VmFd>,
    memory: GuestMemoryMmap,
    vcpus: Vec<Vcpu>,
    tsc_khz: u32,
    start: Instant,
    cpus: u32,
}

struct Vcpu {
    /// A second descriptor, for its MSRs: the first is borrowed while an exit
    /// is being answered.
    msrs: VcpuFd,
    /// When it is to be woken, or [`NEVER`].
    alarm: AtomicU64,
}

const NEVER: u64 = u64::MAX;
const IA32_TSC: MsrIndex = MsrIndex(0x10);

impl KvmHost {
    pub(crate) fn new(vm: Arc<VmFd>, memory: GuestMemoryMmap, vcpus: &[VcpuFd]) -> Result<Self> {
        let tsc_khz = vcpus.first().and_then(|vcpu| vcpu.get_tsc_khz().ok()).unwrap_or(0);
        let second = |vcpu: &VcpuFd| {
            // SAFETY: `vcpu` keeps its descriptor open during the call.
            let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
            let fd = fd.try_clone_to_owned().context("duplicate a vCPU's descriptor")?;
            // SAFETY: it is a vCPU's of this VM, and nobody else's to close.
            let msrs = unsafe { vm.create_vcpu_from_rawfd(fd.into_raw_fd()) };
            Ok(Vcpu { msrs: msrs.context("map a vCPU")?, alarm: AtomicU64::new(NEVER) })
        };
        let vcpus = vcpus.iter().map(second).collect::<Result<_>>()?;
        Ok(KvmHost { vm, memory, vcpus, tsc_khz, start: Instant::now(), cpus: online_cpus() })
    }

    /// Whether a plugin's time has come on this vCPU.
    pub(crate) fn alarm_is_due(&self, vcpu: VcpuId) -> bool {
        let at = self.vcpu(vcpu).map_or(NEVER, |vcpu| vcpu.alarm.load(Ordering::Relaxed));
        at != NEVER && at <= self.monotonic_ns()
    }

    /// The same, and forgets it.
    pub(crate) fn take_due_alarm(&self, vcpu: VcpuId) -> bool {
        let due = self.alarm_is_due(vcpu);
        if let Some(vcpu) = self.vcpu(vcpu).filter(|_| due) {
            vcpu.alarm.store(NEVER, Ordering::Relaxed);
        }
        due
    }

    fn vcpu(&self, vcpu: VcpuId) -> Option<&Vcpu> {
        self.vcpus.get(usize::try_from(vcpu.0).ok()?)
    }

    fn ram(&self, gpa: u64, len: usize) -> Result<GuestAddress, OutsideMemory> {
        let address = GuestAddress(gpa);
        let inside = len == 0 || self.memory.check_range(address, len);
        inside.then_some(address).ok_or(OutsideMemory { gpa, len })
    }
}

// ANCHOR: host
impl Host for KvmHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.kvm_msr(vcpu, IA32_TSC).unwrap_or(0)
    }

    fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(NEVER)
    }

    fn tsc_is_stable(&self) -> bool {
        self.vm.get_clock().is_ok_and(|clock| clock.flags & KVM_CLOCK_TSC_STABLE != 0)
    }

    fn vcpu_times(&self, _vcpu: VcpuId) -> Option<VcpuTimes> {
        // /proc/self/task/TID/schedstat has them; nobody asks here.
        None
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let len = out.len();
        let address = self.ram(gpa, len)?;
        self.memory.read_slice(out, address).map_err(|_| OutsideMemory { gpa, len })
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let len = data.len();
        // All or nothing, so all of it is looked at first.
        let address = self.ram(gpa, len)?;
        self.memory.write_slice(data, address).map_err(|_| OutsideMemory { gpa, len })
    }

    // KVM_GET_MSRS and KVM_SET_MSRS pass by the filter, and say how many they did.
    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex) -> Option<u64> {
        let mut msrs = one_msr(index, 0)?;
        let done = self.vcpu(vcpu)?.msrs.get_msrs(&mut msrs).ok()?;
        msrs.as_slice().first().filter(|_| done == 1).map(|msr| msr.data)
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64) -> bool {
        let set = || self.vcpu(vcpu)?.msrs.set_msrs(&one_msr(index, value)?).ok();
        set() == Some(1)
    }

    fn host_msr(&self, _cpu: Option<u32>, _index: MsrIndex) -> Option<u64> {
        // This VMM shows nobody the host's.
        None
    }

    fn host_cpus(&self) -> u32 {
        self.cpus
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        // The profile has granted this file to the plugin that asks. A pipe that
        // nobody writes to must not hold the vCPU.
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
        filter::install(&self.vm, exits).map_err(|error| ExitsRefused(format!("{error:#}")))
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        if let Some(vcpu) = self.vcpu(vcpu) {
            vcpu.alarm.fetch_min(at, Ordering::Relaxed);
        }
    }
}
// ANCHOR_END: host

/// How many CPUs the host has online, whichever this process may use: the
/// lengths of a list such as `0-3,6`.
fn online_cpus() -> u32 {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let lengths = list.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        number(last)?.checked_sub(number(first)?)?.checked_add(1)
    });
    lengths.fold(0, u32::saturating_add).max(1)
}

fn one_msr(index: MsrIndex, data: u64) -> Option<Msrs> {
    let entry = kvm_msr_entry { index: index.0, data, ..kvm_msr_entry::default() };
    Msrs::from_entries(&[entry]).ok()
}
