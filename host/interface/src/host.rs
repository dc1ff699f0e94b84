//! What plugins ask of the VMM around them.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::access::{Directions, MsrOp, VcpuId};
use crate::counted::counted;
use crate::exit_list::ExitList;
use crate::index::MsrIndex;
use crate::kvm_answer::KvmAnswer;
use crate::range::MsrRange;

/// The virtual machine that a set of plugins serves, as its VMM offers it.
///
/// A plugin reaches these only through host calls, each behind a capability.
///
/// A method with a `vcpu` is called while that vCPU is out of `KVM_RUN`. While the VM
/// runs, that is on the thread which calls the vCPU's [`MsrHandler`](crate::MsrHandler).
/// While it does not, the thread that starts, restores or saves the plugins calls for one
/// vCPU after the other. [`vcpu_times`](Host::vcpu_times) is the exception: it may be
/// called for any vCPU at any time.
///
/// The lock of a plugin instance that vCPUs share is held during a call. So a method must
/// not wait for a lock that its VMM holds while it calls the engine.
pub trait Host: Send + Sync {
    /// The guest's time-stamp counter on `vcpu`, now.
    fn guest_tsc(&self, vcpu: VcpuId) -> u64;

    /// Frequency of the guest's TSC, in kHz.
    fn tsc_khz(&self) -> u32;

    /// Nanoseconds of the host's monotonic clock since an arbitrary start.
    fn monotonic_ns(&self) -> u64;

    /// Nanoseconds of the host's clock of the time of day since 1970, UTC.
    fn realtime_ns(&self) -> u64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether the TSCs of all vCPUs agree and will go on so, as
    /// `KVM_CLOCK_TSC_STABLE` says (KVM api 4.29).
    fn tsc_is_stable(&self) -> bool;

    /// The address of the instruction at which `vcpu` is: in log lines about an access,
    /// and in recordings. `None` if it is not known, as where a guest's registers are
    /// encrypted. It is asked only when a line is written, so it may cost a system call.
    fn guest_rip(&self, _vcpu: VcpuId) -> Option<u64> {
        None
    }

    /// What the host's scheduler has given the thread of `vcpu`, which may be another
    /// thread than the calling one; `None` if it has not started, or if the host does not
    /// count.
    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes>;

    /// Copies `out.len()` bytes of guest-physical memory at `gpa`.
    ///
    /// # Errors
    /// [`OutsideMemory`] if any byte is not guest RAM; `out` is then
    /// unspecified.
    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory>;

    /// Copies `data` to guest-physical memory at `gpa`.
    ///
    /// # Errors
    /// [`OutsideMemory`] if any byte is not guest RAM; nothing is then
    /// written.
    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory>;

    /// KVM's own value of an MSR on `vcpu`, as `initiator` may read it; `None` if KVM
    /// refuses.
    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64>;

    /// Writes KVM's own MSR on `vcpu`, as `initiator` may; `false` if KVM refuses.
    #[must_use]
    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool;

    /// What KVM would do with the guest's own access on `vcpu`, if it held `held` as the
    /// MSR's value; `None`: what it holds. Nothing of the guest changes. No plugin asks
    /// this: it is for kernel shadows.
    fn ask_kvm(
        &self,
        _vcpu: VcpuId,
        _index: MsrIndex,
        _op: MsrOp,
        _held: Option<u64>,
    ) -> KvmAnswer {
        KvmAnswer::NotComparable
    }

    /// The physical host's value of an MSR on one of its CPUs, or on the CPU that this
    /// thread runs on; `None` if the host has none or does not let it be read.
    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64>;

    /// How many CPUs the physical host has online.
    fn host_cpus(&self) -> u32;

    /// Reads the beginning of a file of the host, as much as `out` holds, and returns how
    /// much that is; `None` if it cannot be read. It must not block.
    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize>;

    /// Replaces what exits, at once for all vCPUs. `cause` says what asked for it.
    ///
    /// # Errors
    /// [`ExitsRefused`] if the VMM's filter cannot hold it; the old filter stays.
    fn set_exits(&self, exits: &ExitList, cause: &ExitsCause) -> Result<(), ExitsRefused>;

    /// Has [`MsrHandler::wake`](crate::MsrHandler::wake) called on the thread of `vcpu`
    /// when [`monotonic_ns`](Host::monotonic_ns) has reached `at`; the vCPU is taken out
    /// of the guest for it. One time per vCPU is kept: the earliest since the last wake.
    fn wake_at(&self, vcpu: VcpuId, at: u64);
}

/// On whose behalf KVM's own MSRs are read and written: `host_initiated` in the kernel's
/// `arch/x86/kvm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The VMM's: `KVM_GET_MSRS` and `KVM_SET_MSRS` (KVM api 4.18 and 4.19), which are
    /// for restoring a state. KVM takes more of it than of a guest.
    Host,
    /// The guest's: what its own `rdmsr` or `wrmsr` does if the MSR does not exit.
    Guest,
}

/// What the host's scheduler has given a thread since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VcpuTimes {
    /// Nanoseconds on a CPU.
    pub ran_ns: u64,
    /// Nanoseconds ready to run, with no CPU to run on.
    pub waited_ns: u64,
}

/// What asked for a change of what exits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitsCause {
    /// A plugin turned the intercept of MSRs that it claims on or off.
    Intercept {
        /// The plugin's name.
        plugin: Arc<str>,
        /// The MSRs.
        range: MsrRange,
        /// In which directions.
        directions: Directions,
        /// Whether they exit from now on.
        on: bool,
    },
    /// The guest was reset: what exits is again what the manifests say.
    Reset,
    /// A saved state was restored.
    Restore,
}

/// A VMM cannot let exit what a plugin wants to exit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the exits do not fit the filter: {0}")]
pub struct ExitsRefused(pub String);

/// A guest-physical range that is not wholly guest RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical range of {} at {gpa:#x} is outside guest memory", counted(*len, "byte", "bytes"))]
pub struct OutsideMemory {
    /// First guest-physical address.
    pub gpa: u64,
    /// Length in bytes.
    pub len: usize,
}
