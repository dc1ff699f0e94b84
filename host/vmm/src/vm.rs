//! A virtual machine, built from nothing in one function.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL,
    KVM_MSR_EXIT_REASON_UNKNOWN, KVM_PIT_SPEAKER_DUMMY, kvm_cpuid_entry2, kvm_enable_cap,
    kvm_pit_config,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;
use wasmsr_interface::{CpuidChange, Host, MsrIndex, VcpuId};

use crate::boot::{self, BootError, Entry};
use crate::config::{Boot, VmConfig};
use crate::cpuid;
use crate::cpuid_promises::empty_promises;
use crate::devices::{Console, Devices, FwCfg};
use crate::filter::KvmFilter;
use crate::host::VmHost;
use crate::kvm::{self, KvmError};
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::memory::{self, MemoryError};
use crate::vcpu::Vcpu;

/// Everything that makes one VM.
pub struct VmSpec<'a> {
    /// Its size.
    pub vm: &'a VmConfig,
    /// What it runs.
    pub boot: &'a Boot,
    /// Which MSR accesses exit.
    pub filter: &'a KvmFilter,
    /// What the plugins change in CPUID.
    pub cpuid: &'a [CpuidChange],
    /// Where the serial console prints, a byte at a time. A write may block;
    /// it should not hide interruptions ([`std::io::ErrorKind::Interrupted`]),
    /// or a reader that is stuck keeps the run from ending.
    pub output: Box<dyn Write + Send>,
}

/// A virtual machine, ready to run once. A reset needs a new one.
pub struct Vm {
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) devices: Arc<Devices>,
    /// Set once, when all vCPUs shall leave.
    pub(crate) stopping: Arc<AtomicBool>,
    pub(crate) host: Arc<VmHost>,
    /// The console's interrupt is connected as long as this is open.
    _vm: Arc<VmFd>,
    /// Keeps mapped what the VM has as memory.
    _memory: GuestMemoryMmap,
}

/// Why a VM cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// KVM is missing or lacks something.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The memory asked for cannot be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The guest cannot be loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// No vCPU at all, or more than KVM or the interrupt controller takes.
    #[error("{asked} vCPUs asked for, but this KVM takes 1 to {limit}; change `vcpus`")]
    Vcpus {
        /// The profile's.
        asked: u32,
        /// The most there can be.
        limit: u32,
    },
    /// More CPUID leaves than KVM takes.
    #[error(
        "CPUID has {0} leaves with the plugins' changes, but KVM takes {KVM_MAX_CPUID_ENTRIES}; \
         change fewer leaves"
    )]
    Cpuid(usize),
    /// KVM refuses a step that its capabilities promise.
    #[error("KVM refuses to {step}: {error}")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// What KVM says.
        error: kvm_ioctls::Error,
    },
}

impl Vm {
    /// Builds a VM and loads its guest; nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`] says what cannot be had and what to do about it; nothing
    /// is left behind.
    pub fn build(spec: VmSpec<'_>) -> Result<Vm, BuildError> {
        let kvm = kvm::open()?;
        if kvm::ignores_unknown_msrs().unwrap_or_default() {
            tracing::warn!(
                "kvm.ignore_msrs is set: the kernel answers unknown MSRs itself, and neither \
                 plugins nor policy see those that no plugin names"
            );
        }
        let vcpus = checked_vcpus(&kvm, spec.vm.vcpus)?;
        let vm = kvm.create_vm().map_err(refused("create a VM"))?;

        // Exits first: a filter without them would turn accesses into #GP. And
        // both before any device: a filter that is replaced waits for what
        // devices have left to the kernel to be freed, 15 ms on Linux 6.18.
        vm.enable_cap(&msr_exits()).map_err(refused("let MSR accesses exit"))?;
        spec.filter.install(&vm).map_err(refused("install the MSR filter"))?;

        let cpuid = supported_cpuid(&kvm)?;
        for promise in empty_promises(&cpuid, spec.cpuid) {
            tracing::warn!("{promise}");
        }
        let memory = memory::allocate(spec.vm.memory, cpuid::physical_address_bits(&cpuid))?;
        memory::give_to(&vm, &memory)?;

        // Pages that KVM needs for itself on Intel, in the hole below 4 GiB.
        vm.set_identity_map_address(IDENTITY_MAP).map_err(refused("place its identity map"))?;
        vm.set_tss_address(TASK_STATE).map_err(refused("place its task state"))?;

        // PIC, IOAPIC and local APICs, then the timer that raises IRQ 0.
        vm.create_irq_chip().map_err(refused("create the interrupt controllers"))?;
        let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..kvm_pit_config::default() };
        vm.create_pit2(pit).map_err(refused("create the PIT"))?;

        let stopping = Arc::new(AtomicBool::new(false));
        let serial_interrupt = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map_err(|error| refused("make an event for the console")(error.into()))?;
        vm.register_irqfd(&serial_interrupt, SERIAL_IRQ)
            .map_err(refused("connect the console's interrupt"))?;
        let console = Console::new(serial_interrupt, spec.output, Arc::clone(&stopping));
        let devices = Arc::new(Devices::new(console, FwCfg::new(spec.vm.memory, spec.vm.vcpus)));

        let entry = boot::load(&memory, spec.boot, spec.vm.vcpus)?;

        let mut fds = Vec::new();
        let mut msrs = Vec::new();
        for &id in &vcpus {
            let leaves = cpuid::of_vcpu(&cpuid, id, spec.vm.vcpus, spec.cpuid);
            let (fd, own_msrs) = create_vcpu(&vm, id, &leaves)?;
            fds.push(fd);
            msrs.push(Arc::new(own_msrs));
        }
        // Every vCPU but the first waits for INIT and SIPI.
        let mut tsc_khz = 0;
        if let Some(first) = fds.first() {
            enter_at(first, &entry).map_err(refused("set the first vCPU's registers"))?;
            tsc_khz = first.get_tsc_khz().map_err(refused("tell the frequency of the TSC"))?;
        }

        let vm = Arc::new(vm);
        let host = VmHost::new(Arc::clone(&vm) as _, memory.clone(), msrs.clone(), tsc_khz);
        let host = Arc::new(host);
        let vcpus = vcpus.into_iter().zip(fds).zip(msrs).map(|((id, fd), msrs)| Vcpu {
            id,
            fd,
            msrs,
            devices: Arc::clone(&devices),
            host: Arc::clone(&host),
            stopping: Arc::clone(&stopping),
        });
        Ok(Vm { vcpus: vcpus.collect(), devices, stopping, host, _vm: vm, _memory: memory })
    }

    /// What this VM offers to plugins.
    pub fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host) as Arc<dyn Host>
    }
}

/// Where KVM keeps a page of 1:1 page tables, and three pages of task state
/// (KVM api 4.35 and 4.36); QEMU and Firecracker use these too.
const IDENTITY_MAP: u64 = 0xfffb_c000;
const TASK_STATE: usize = 0xfffb_d000;

/// COM1's line on PIC and IOAPIC.
const SERIAL_IRQ: u32 = 4;

/// xAPIC ids have 8 bits, of which 0xff addresses everybody.
const MOST_VCPUS: usize = 255;

fn refused(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> BuildError {
    move |error| BuildError::Step { step, error }
}

fn checked_vcpus(kvm: &Kvm, asked: u32) -> Result<Vec<VcpuId>, BuildError> {
    let limit = kvm.get_max_vcpus().min(kvm.get_max_vcpu_id()).min(MOST_VCPUS);
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    match asked {
        0 => Err(BuildError::Vcpus { asked, limit }),
        _ if asked > limit => Err(BuildError::Vcpus { asked, limit }),
        _ => Ok((0..asked).map(VcpuId).collect()),
    }
}

fn supported_cpuid(kvm: &Kvm) -> Result<Vec<kvm_cpuid_entry2>, BuildError> {
    let supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(refused("say which CPUID it supports"))?;
    let mut entries = supported.as_slice().to_vec();
    if kvm.check_extension(Cap::TscDeadlineTimer) {
        cpuid::add_tsc_deadline(&mut entries);
    }
    Ok(entries)
}

pub(crate) fn msr_exits() -> kvm_enable_cap {
    let reasons =
        KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
    kvm_enable_cap {
        cap: Cap::X86UserSpaceMsr as u32,
        args: [reasons.into(), 0, 0, 0],
        ..kvm_enable_cap::default()
    }
}

fn create_vcpu(
    vm: &VmFd,
    id: VcpuId,
    leaves: &[kvm_cpuid_entry2],
) -> Result<(VcpuFd, KvmMsrs), BuildError> {
    let vcpu = vm.create_vcpu(id.0.into()).map_err(refused("create a vCPU"))?;
    let leaves = CpuId::from_entries(leaves).map_err(|_| BuildError::Cpuid(leaves.len()))?;
    vcpu.set_cpuid2(&leaves).map_err(refused("set a vCPU's CPUID"))?;
    let msrs = KvmMsrs::of(&vcpu)
        .map_err(|error| refused("duplicate a vCPU's descriptor")(error.into()))?;
    set_as_firmware_would(&msrs);
    Ok((vcpu, msrs))
}

/// Kernels expect that firmware has made memory cacheable (SDM volume 3,
/// "IA32_MTRR_DEF_TYPE MSR") and string instructions fast. A KVM without
/// these MSRs needs neither.
fn set_as_firmware_would(msrs: &impl KernelMsrs) {
    const MTRR_DEFAULT_TYPE: MsrIndex = MsrIndex(0x2ff);
    const ENABLED_WRITE_BACK: u64 = 1 << 11 | 6;
    const MISC_ENABLE: MsrIndex = MsrIndex(0x1a0);
    const FAST_STRINGS: u64 = 1 << 0;

    let cacheable = msrs.write(MTRR_DEFAULT_TYPE, ENABLED_WRITE_BACK);
    let fast = msrs
        .read(MISC_ENABLE)
        .is_some_and(|enabled| msrs.write(MISC_ENABLE, enabled | FAST_STRINGS));
    tracing::debug!(cacheable, fast, "set MSRs as firmware would");
}

fn enter_at(vcpu: &VcpuFd, entry: &Entry) -> Result<(), kvm_ioctls::Error> {
    let mut sregs = vcpu.get_sregs()?;
    let mut regs = vcpu.get_regs()?;
    entry.apply_to(&mut sregs, &mut regs);
    vcpu.set_sregs(&sregs)?;
    vcpu.set_regs(&regs)
}
