//! Tries whether a guest's write of IA32_TSC_DEADLINE exits where a filter denies it.

use kvm_bindings::kvm_regs;
use kvm_ioctls::{Kvm, VcpuExit, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use wasmsr_interface::{Directions, ExitClaim, ExitList};
use wasmsr_kvm::enable_msr_exits;
use wasmsr_kvm::filter::KvmFilter;

use crate::deadline::TSC_DEADLINE;
use crate::memory;
use crate::vm::TASK_STATE;

/// What became of the write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tried {
    /// It left the kernel.
    Exited,
    /// KVM took it.
    Stayed,
    /// KVM refused it.
    Refused,
    /// It could not be tried.
    Failed(String),
}

/// Runs a guest of a few bytes in real mode that writes 0, which arms no timer.
pub(super) fn try_write(kvm: &Kvm) -> Tried {
    attempt(kvm).unwrap_or_else(Tried::Failed)
}

const CODE: u64 = 0x1000;
const MEMORY: usize = 0x4000;

/// Ports where the guest says how far it came.
const WRITTEN: u8 = 0x10;
const FAULTED: u8 = 0x11;

/// mov ecx, 0x6e0; xor eax, eax; xor edx, edx; wrmsr; out WRITTEN, al; hlt
const GUEST: &[u8] = &[
    0x66, 0xb9, 0xe0, 0x06, 0x00, 0x00, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, 0x0f, 0x30, 0xe6,
    WRITTEN, 0xf4,
];

/// out FAULTED, al; hlt. It lies at 0, to which all vectors of empty memory lead.
const FAULT: &[u8] = &[0xe6, FAULTED, 0xf4];

fn attempt(kvm: &Kvm) -> Result<Tried, String> {
    let step = |step: &'static str| move |error: kvm_ioctls::Error| format!("{step}: {error}");
    let vm = kvm.create_vm().map_err(step("create a VM"))?;
    deny_writes(&vm)?;
    let at_zero = [(GuestAddress(0), MEMORY)];
    let ram = GuestMemoryMmap::<()>::from_ranges(&at_zero).map_err(|error| error.to_string())?;
    memory::give_to(&vm, &ram).map_err(|error| error.to_string())?;
    vm.set_tss_address(TASK_STATE).map_err(step("place its task state"))?;
    // The timer is the local APIC's.
    vm.create_irq_chip().map_err(step("create the interrupt controllers"))?;
    for (code, at) in [(FAULT, 0), (GUEST, CODE)] {
        ram.write_slice(code, GuestAddress(at)).map_err(|error| error.to_string())?;
    }
    let mut vcpu = vm.create_vcpu(0).map_err(step("create a vCPU"))?;
    let mut segments = vcpu.get_sregs().map_err(step("read its registers"))?;
    (segments.cs.base, segments.cs.selector) = (0, 0);
    vcpu.set_sregs(&segments).map_err(step("set its registers"))?;
    let registers = kvm_regs { rip: CODE, rsp: 0x3000, rflags: 2, ..kvm_regs::default() };
    vcpu.set_regs(&registers).map_err(step("set its registers"))?;
    // A signal may interrupt it; nothing in the guest waits.
    for _ in 0..16 {
        match vcpu.run() {
            Ok(VcpuExit::X86Wrmsr(exit)) if exit.index == TSC_DEADLINE.0 => {
                return Ok(Tried::Exited);
            }
            Ok(VcpuExit::IoOut(port, _)) if port == u16::from(WRITTEN) => return Ok(Tried::Stayed),
            Ok(VcpuExit::IoOut(port, _)) if port == u16::from(FAULTED) => {
                return Ok(Tried::Refused);
            }
            Ok(VcpuExit::Intr) => {}
            Ok(other) => return Err(format!("the guest left with {other:?}")),
            Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {}
            Err(error) => return Err(format!("run the guest: {error}")),
        }
    }
    Err("run the guest: it was interrupted".to_owned())
}

fn deny_writes(vm: &VmFd) -> Result<(), String> {
    enable_msr_exits(vm).map_err(|refused| refused.to_string())?;
    let claim = ExitClaim::new("doctor", TSC_DEADLINE.into(), Directions::Write);
    let filter =
        KvmFilter::pack(&ExitList::from(vec![claim])).map_err(|error| error.to_string())?;
    filter.install(vm).map_err(|refused| refused.to_string())
}
