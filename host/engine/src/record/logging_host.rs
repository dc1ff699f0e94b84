//! A host that logs what one plugin asks of it, if a log is being written.

use std::path::Path;
use std::sync::Arc;

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, KvmAnswer, MsrIndex, MsrOp, OutsideMemory,
    VcpuId, VcpuTimes,
};

use super::call::{HostCall, Switch};
use super::call_log::{is_written, note};
use super::hex::{Bytes, Hex};

/// A host that passes the calls of one plugin on to another host, and logs each with
/// its reply; see [`during`](super::during). Outside of that it costs a look at a
/// thread-local: plugins that may be recorded later have it all the time.
pub(crate) struct LoggingHost {
    inner: Arc<dyn Host>,
    plugin: Arc<str>,
}

impl LoggingHost {
    pub(crate) fn new(inner: Arc<dyn Host>, plugin: Arc<str>) -> Self {
        LoggingHost { inner, plugin }
    }

    /// The call is made only if a log is being written: it may copy what was read.
    fn note(&self, call: impl FnOnce() -> HostCall) {
        if is_written() {
            note(&self.plugin, call());
        }
    }
}

impl Host for LoggingHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        let value = self.inner.guest_tsc(vcpu);
        self.note(|| HostCall::Tsc { vcpu: vcpu.0, value: Hex(value) });
        value
    }

    fn tsc_khz(&self) -> u32 {
        let value = self.inner.tsc_khz();
        self.note(|| HostCall::TscKhz { value });
        value
    }

    fn monotonic_ns(&self) -> u64 {
        let value = self.inner.monotonic_ns();
        self.note(|| HostCall::MonotonicNs { value: Hex(value) });
        value
    }

    fn realtime_ns(&self) -> u64 {
        let value = self.inner.realtime_ns();
        self.note(|| HostCall::RealtimeNs { value: Hex(value) });
        value
    }

    fn tsc_is_stable(&self) -> bool {
        let value = self.inner.tsc_is_stable();
        self.note(|| HostCall::TscIsStable { value });
        value
    }

    /// Not a call of the plugin.
    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        self.inner.guest_rip(vcpu)
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        let times = self.inner.vcpu_times(vcpu);
        let value = times.map(|times| (Hex(times.ran_ns), Hex(times.waited_ns)));
        self.note(|| HostCall::VcpuTimes { vcpu: vcpu.0, value });
        times
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let read = self.inner.read_memory(gpa, out);
        self.note(|| {
            let data = read.is_ok().then(|| Bytes(out.to_vec()));
            HostCall::GuestRead { gpa: Hex(gpa), len: out.len(), data }
        });
        read
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let written = self.inner.write_memory(gpa, data);
        self.note(|| {
            let (data, done) = (Bytes(data.to_vec()), written.is_ok());
            HostCall::GuestWrite { gpa: Hex(gpa), data, done }
        });
        written
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        let value = self.inner.kvm_msr(vcpu, index, initiator);
        let as_guest = initiator == Initiator::Guest;
        self.note(|| HostCall::KvmRdmsr {
            vcpu: vcpu.0,
            msr: index,
            as_guest,
            value: value.map(Hex),
        });
        value
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        let done = self.inner.set_kvm_msr(vcpu, index, value, initiator);
        let as_guest = initiator == Initiator::Guest;
        let (vcpu, value) = (vcpu.0, Hex(value));
        self.note(|| HostCall::KvmWrmsr { vcpu, msr: index, value, as_guest, done });
        done
    }

    /// Not a call of the plugin.
    fn ask_kvm(&self, vcpu: VcpuId, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        self.inner.ask_kvm(vcpu, index, op, held)
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        let value = self.inner.host_msr(cpu, index);
        self.note(|| HostCall::HostRdmsr { cpu, msr: index, value: value.map(Hex) });
        value
    }

    fn host_cpus(&self) -> u32 {
        let value = self.inner.host_cpus();
        self.note(|| HostCall::HostCpus { value });
        value
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        let read = self.inner.read_host_file(path, out);
        self.note(|| {
            let data = read.and_then(|len| out.get(..len)).map(|data| Bytes(data.to_vec()));
            HostCall::HostFile { path: path.to_owned(), room: out.len(), data }
        });
        read
    }

    /// Not a call of the plugin.
    fn check_exits(&self, exits: &ExitList) -> Result<(), ExitsRefused> {
        self.inner.check_exits(exits)
    }

    fn set_exits(&self, exits: &ExitList, cause: &ExitsCause) -> Result<(), ExitsRefused> {
        let set = self.inner.set_exits(exits, cause);
        self.note(|| {
            let refused = set.as_ref().err().map(|refused| refused.0.clone());
            HostCall::SetExits { switch: Switch::of(cause), refused }
        });
        set
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.inner.wake_at(vcpu, at);
        self.note(|| HostCall::WakeAt { vcpu: vcpu.0, at: Hex(at) });
    }
}
