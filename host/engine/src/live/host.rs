//! The host as a plugin sees it that can be swapped: what it may change depends on whether
//! it is in charge.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, OnceLock, Weak};

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, KvmAnswer, MsrIndex, MsrOp, OutsideMemory,
    VcpuId, VcpuTimes,
};

use super::aside::AsideHost;
use super::cell::VcpuCell;
use crate::record::{LoggingHost, ReplayHost};
use crate::shadow::ReadOnlyHost;

/// What a plugin is to its VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is made ready while another set is in charge: what it changes is held back.
    Aside,
    /// It answers the guest.
    InCharge,
    /// It follows the plugin that came after it, and changes nothing.
    Shadow,
}

/// What the calling thread is doing to the plugins of a VM.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    /// Nothing: it runs a vCPU, and calls for that one only.
    Serves,
    /// It makes plugins ready.
    Prepares,
    /// It holds the lock of the vCPU for which it calls.
    Holds,
}

thread_local! {
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Serves) };
}

/// Runs `f` as one that makes plugins ready, while vCPUs run.
pub(super) fn preparing<R>(f: impl FnOnce() -> R) -> R {
    during(Thread::Prepares, f)
}

/// Runs `f` with the locks held of all vCPUs for which the host is called meanwhile.
pub(super) fn holding<R>(f: impl FnOnce() -> R) -> R {
    during(Thread::Holds, f)
}

fn during<R>(what: Thread, f: impl FnOnce() -> R) -> R {
    let before = THREAD.replace(what);
    let result = f();
    THREAD.set(before);
    result
}

/// The VMM's host, which other threads than those of vCPUs may call as well.
pub(super) struct VmHost {
    inner: Arc<dyn Host>,
    /// Empty until the vCPUs have plugins.
    cells: OnceLock<Box<[Weak<VcpuCell>]>>,
}

impl VmHost {
    pub(super) fn new(inner: Arc<dyn Host>) -> Self {
        VmHost { inner, cells: OnceLock::new() }
    }

    pub(super) fn connect(&self, cells: &[Arc<VcpuCell>]) {
        // There is one set of vCPUs.
        let _ = self.cells.set(cells.iter().map(Arc::downgrade).collect());
    }

    /// Calls for `vcpu` while that is out of the guest. A vCPU that was woken waits for its
    /// lock before it enters the guest again, and the VMM's call waits until it is out.
    fn out_of_guest<R>(&self, vcpu: VcpuId, call: impl FnOnce(&dyn Host) -> R) -> R {
        let thread = THREAD.get();
        if thread == Thread::Serves {
            return call(&*self.inner);
        }
        let cells = self.cells.get().map(|cells| &**cells).unwrap_or_default();
        let cell = usize::try_from(vcpu.0).ok().and_then(|vcpu| cells.get(vcpu)?.upgrade());
        let _held = cell.as_ref().filter(|_| thread == Thread::Prepares).map(|cell| cell.lock());
        self.inner.wake_at(vcpu, 0);
        call(&*self.inner)
    }
}

impl Host for VmHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.out_of_guest(vcpu, |host| host.guest_tsc(vcpu))
    }

    fn tsc_khz(&self) -> u32 {
        self.inner.tsc_khz()
    }

    fn monotonic_ns(&self) -> u64 {
        self.inner.monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        self.inner.realtime_ns()
    }

    fn tsc_is_stable(&self) -> bool {
        self.inner.tsc_is_stable()
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        self.out_of_guest(vcpu, |host| host.guest_rip(vcpu))
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.inner.vcpu_times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.inner.read_memory(gpa, out)
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        self.inner.write_memory(gpa, data)
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        self.out_of_guest(vcpu, |host| host.kvm_msr(vcpu, index, initiator))
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        self.out_of_guest(vcpu, |host| host.set_kvm_msr(vcpu, index, value, initiator))
    }

    fn ask_kvm(&self, vcpu: VcpuId, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        self.out_of_guest(vcpu, |host| host.ask_kvm(vcpu, index, op, held))
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.inner.host_msr(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.inner.host_cpus()
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        self.inner.read_host_file(path, out)
    }

    fn check_exits(&self, exits: &ExitList) -> Result<(), ExitsRefused> {
        self.inner.check_exits(exits)
    }

    fn set_exits(&self, exits: &ExitList, cause: &ExitsCause) -> Result<(), ExitsRefused> {
        self.inner.set_exits(exits, cause)
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.inner.wake_at(vcpu, at);
    }
}

/// The host of one plugin, whatever its role.
pub(super) struct PluginHost {
    role: AtomicU8,
    /// In the order of [`Role`].
    aside: LoggingHost,
    in_charge: LoggingHost,
    shadow: LoggingHost,
    pub(super) held: Arc<AsideHost>,
}

impl PluginHost {
    /// The host of the plugin with this name.
    pub(super) fn new(vm: &Arc<VmHost>, plugin: &Arc<str>, role: Role) -> Self {
        let vm: Arc<dyn Host> = vm.clone();
        let held = Arc::new(AsideHost::new(vm.clone()));
        let read_only = Arc::new(ReadOnlyHost(vm.clone()));
        let replayed = Arc::new(ReplayHost::new(plugin.clone(), read_only));
        PluginHost {
            role: AtomicU8::new(role as u8),
            aside: LoggingHost::new(held.clone(), plugin.clone()),
            in_charge: LoggingHost::new(vm, plugin.clone()),
            shadow: LoggingHost::new(replayed, plugin.clone()),
            held,
        }
    }

    pub(super) fn set_role(&self, role: Role) {
        self.role.store(role as u8, Release);
    }

    fn now(&self) -> &dyn Host {
        match self.role.load(Acquire) {
            role if role == Role::InCharge as u8 => &self.in_charge,
            role if role == Role::Shadow as u8 => &self.shadow,
            _ => &self.aside,
        }
    }
}

impl Host for PluginHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.now().guest_tsc(vcpu)
    }

    fn tsc_khz(&self) -> u32 {
        self.now().tsc_khz()
    }

    fn monotonic_ns(&self) -> u64 {
        self.now().monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        self.now().realtime_ns()
    }

    fn tsc_is_stable(&self) -> bool {
        self.now().tsc_is_stable()
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        self.now().guest_rip(vcpu)
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.now().vcpu_times(vcpu)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.now().read_memory(gpa, out)
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        self.now().write_memory(gpa, data)
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        self.now().kvm_msr(vcpu, index, initiator)
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        self.now().set_kvm_msr(vcpu, index, value, initiator)
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.now().host_msr(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.now().host_cpus()
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        self.now().read_host_file(path, out)
    }

    fn check_exits(&self, exits: &ExitList) -> Result<(), ExitsRefused> {
        self.now().check_exits(exits)
    }

    fn set_exits(&self, exits: &ExitList, cause: &ExitsCause) -> Result<(), ExitsRefused> {
        self.now().set_exits(exits, cause)
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.now().wake_at(vcpu, at);
    }
}
