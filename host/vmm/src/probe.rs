//! A VM that never runs a guest: to ask this host's KVM what it would give to one.

use std::sync::Arc;

use kvm_ioctls::{VcpuFd, VmFd};
use wasmsr_interface::{CpuidChange, Host, KvmAnswer, MsrIndex, MsrOp, OutsideMemory, VcpuId};
use wasmsr_kvm::{GuestRam, KernelMsrs as _, KvmHost, KvmMsrs};

use crate::vm::{BuildError, IDENTITY_MAP, TASK_STATE, create_vcpu, refused, supported_cpuid};
use crate::{cpuid, kvm};

/// A VM with one vCPU, no memory and no filter.
pub struct Probe {
    host: Arc<KvmHost<NoRam>>,
    msrs: KvmMsrs,
    _vcpu: VcpuFd,
    _vm: VmFd,
}

/// The probe's only vCPU.
const VCPU: VcpuId = VcpuId(0);

impl Probe {
    /// A VM whose CPUID is what KVM supports, with these changes.
    ///
    /// # Errors
    /// [`BuildError`] says what cannot be had and what to do about it.
    pub fn new(changes: &[CpuidChange]) -> Result<Self, BuildError> {
        let kvm = kvm::open()?;
        let vm = kvm.create_vm().map_err(refused("create a VM"))?;
        vm.set_identity_map_address(IDENTITY_MAP).map_err(refused("place its identity map"))?;
        vm.set_tss_address(TASK_STATE).map_err(refused("place its task state"))?;
        vm.create_irq_chip().map_err(refused("create the interrupt controllers"))?;
        let leaves = cpuid::of_vcpu(&supported_cpuid(&kvm)?, VCPU, 1, changes);
        let (vcpu, msrs) = create_vcpu(&vm, VCPU, &leaves)?;
        let host = Arc::new(KvmHost::new(&kvm, &vm, std::slice::from_ref(&msrs), NoRam)?);
        Ok(Probe { host, msrs, _vcpu: vcpu, _vm: vm })
    }

    /// What it offers to plugins.
    pub fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host) as Arc<dyn Host>
    }

    /// Whether KVM has the MSR for a VMM.
    pub fn has(&self, index: MsrIndex) -> bool {
        self.msrs.read(index).is_some()
    }

    /// What KVM would do with a guest's access, as [`Host::ask_kvm`] has it.
    pub fn ask(&self, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        self.host.ask_kvm(VCPU, index, op, held)
    }
}

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
