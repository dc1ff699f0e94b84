//! A host without a guest, for dry runs, tests and benchmarks.

use std::path::Path;
use std::time::Instant;

use crate::access::VcpuId;
use crate::exit_list::ExitList;
use crate::host::{ExitsCause, ExitsRefused, Host, Initiator, OutsideMemory, VcpuTimes};
use crate::index::MsrIndex;

/// No guest at all: what plugins see when a profile is only checked. It is enough for
/// tests and benchmarks of plugins that need no guest.
///
/// Every MSR of KVM's and of the host's reads as 0, so that a plugin does not fail if it
/// looks at them when it starts. KVM's MSRs take any value and forget it. Every file of
/// the host is empty, and there is no memory.
#[derive(Debug)]
pub struct NoGuest {
    start: Instant,
}

impl Default for NoGuest {
    fn default() -> Self {
        NoGuest { start: Instant::now() }
    }
}

impl Host for NoGuest {
    fn guest_tsc(&self, _vcpu: VcpuId) -> u64 {
        self.monotonic_ns()
    }

    fn tsc_khz(&self) -> u32 {
        // `guest_tsc` counts nanoseconds.
        1_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn tsc_is_stable(&self) -> bool {
        true
    }

    fn vcpu_times(&self, _vcpu: VcpuId) -> Option<VcpuTimes> {
        None
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory { gpa, len: out.len() })
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory { gpa, len: data.len() })
    }

    fn kvm_msr(&self, _vcpu: VcpuId, _index: MsrIndex, _: Initiator) -> Option<u64> {
        Some(0)
    }

    fn set_kvm_msr(&self, _vcpu: VcpuId, _index: MsrIndex, _value: u64, _: Initiator) -> bool {
        true
    }

    fn host_msr(&self, _cpu: Option<u32>, _index: MsrIndex) -> Option<u64> {
        Some(0)
    }

    fn host_cpus(&self) -> u32 {
        1
    }

    fn read_host_file(&self, _path: &Path, _out: &mut [u8]) -> Option<usize> {
        Some(0)
    }

    fn set_exits(&self, _exits: &ExitList, _cause: &ExitsCause) -> Result<(), ExitsRefused> {
        Ok(())
    }

    fn wake_at(&self, _vcpu: VcpuId, _at: u64) {}
}
