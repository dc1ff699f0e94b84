//! The host of a shadow: reads pass, writes are dropped.

use std::path::Path;
use std::sync::Arc;

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, KvmAnswer, MsrIndex, MsrOp, OutsideMemory,
    VcpuId, VcpuTimes,
};

/// A host through which nothing can be changed.
pub(crate) struct ReadOnlyHost(pub(crate) Arc<dyn Host>);

impl Host for ReadOnlyHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.0.guest_tsc(vcpu)
    }

    fn tsc_khz(&self) -> u32 {
        self.0.tsc_khz()
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        self.0.realtime_ns()
    }

    fn tsc_is_stable(&self) -> bool {
        self.0.tsc_is_stable()
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        self.0.guest_rip(vcpu)
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.0.vcpu_times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.0.read_memory(gpa, out)
    }

    /// Fails where the write would fail.
    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        self.0.read_memory(gpa, &mut vec![0; data.len()])
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        self.0.kvm_msr(vcpu, index, initiator)
    }

    /// As if KVM took the value: whether it would shows only when the value is set.
    fn set_kvm_msr(&self, _: VcpuId, _: MsrIndex, _: u64, _: Initiator) -> bool {
        true
    }

    fn ask_kvm(&self, vcpu: VcpuId, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        self.0.ask_kvm(vcpu, index, op, held)
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.0.host_msr(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.0.host_cpus()
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        self.0.read_host_file(path, out)
    }

    fn set_exits(&self, _: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        Ok(())
    }

    /// Passes: a shadow's timers come as if it were in charge.
    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.0.wake_at(vcpu, at);
    }
}
