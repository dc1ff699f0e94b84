//! A virtual machine, built from nothing in one function.

use std::io::Write;
use std::sync::Arc;

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;
use wasmsr_interface::{CpuidChange, Direction, Host, MAX_VCPUS, MsrIndex, VcpuId, counted};
use wasmsr_kvm::filter::KvmFilter;
use wasmsr_kvm::{
    CpuidEntry, CpuidError, KernelMsrs, KvmHost, KvmMsrs, MAX_CPUID_ENTRIES, Refused,
    empty_promises, enable_msr_exits, ignores_unknown_msrs, set_cpuid,
};

use crate::boot::{self, BootError, Entry};
use crate::config::{Boot, VmConfig};
use crate::cpuid;
use crate::deadline::{TSC_DEADLINE, deadline_writes, hides_deadline_mode};
use crate::devices::{Console, Devices, FwCfg, Level, PowerEvents, SCI};
use crate::gate::{Gate, Order};
use crate::kvm::{self, KvmError};
use crate::memory::{self, MemoryError, Ram};
use crate::vcpu::Vcpu;

/// Everything that makes one VM.
pub struct VmSpec<'a> {
    /// Its size.
    pub vm: &'a VmConfig,
    /// What it runs.
    pub boot: &'a Boot,
    /// Which MSR accesses exit.
    pub filter: &'a KvmFilter,
    /// What plugins and profile change in CPUID.
    pub cpuid: &'a [CpuidChange],
    /// Where the serial console prints, one byte at a time. A write may block. It must
    /// not hide interruptions ([`std::io::ErrorKind::Interrupted`]), or a reader that is
    /// stuck keeps the run from ending.
    pub output: Box<dyn Write + Send>,
}

/// A virtual machine, ready to run once. A reset needs a new one.
pub struct Vm {
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) host: Arc<KvmHost<Ram>>,
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
    #[error("{} asked for, but this KVM takes 1 to {limit}; change `vcpus`", counted(*asked, "vCPU", "vCPUs"))]
    Vcpus {
        /// What was asked for.
        asked: u32,
        /// The most there can be.
        limit: u32,
    },
    /// More CPUID leaves than KVM takes.
    #[error(
        "CPUID has {0} leaves with the changes of profile and plugins, but KVM takes \
         {MAX_CPUID_ENTRIES}; change fewer leaves"
    )]
    Cpuid(usize),
    /// KVM refuses a step that its capabilities promise.
    #[error(transparent)]
    Step(#[from] Refused),
}

impl From<CpuidError> for BuildError {
    fn from(error: CpuidError) -> Self {
        match error {
            CpuidError::TooMany(leaves) => BuildError::Cpuid(leaves),
            CpuidError::Refused(refused) => BuildError::Step(refused),
        }
    }
}

impl Vm {
    /// Builds a VM and loads its guest; nothing runs yet.
    ///
    /// # Errors
    /// [`BuildError`] says what cannot be had and what to do about it; nothing
    /// is left behind.
    pub fn build(spec: VmSpec<'_>) -> Result<Vm, BuildError> {
        let kvm = kvm::open()?;
        if ignores_unknown_msrs().unwrap_or_default() {
            tracing::warn!(
                "kvm.ignore_msrs is set: the kernel answers unknown MSRs itself, and neither \
                 plugins nor policy see those that no plugin names"
            );
        }
        if spec.filter.exits(TSC_DEADLINE, Direction::Write)
            && !hides_deadline_mode(spec.cpuid)
            && let Some(warning) = deadline_writes().warning("the filter is to let exit")
        {
            tracing::warn!("{warning}");
        }
        let vcpus = checked_vcpus(&kvm, spec.vm.vcpus)?;
        let vm = Arc::new(kvm.create_vm().map_err(refused("create a VM"))?);

        // Exits first: a filter without them would turn accesses into #GP. And
        // both before any device: a filter that is replaced waits for what
        // devices have left to the kernel to be freed, 15 ms on Linux 6.18.
        enable_msr_exits(&vm)?;
        spec.filter.install(&vm)?;

        let cpuid = supported_cpuid(&kvm)?;
        let exits = |msr| {
            [Direction::Read, Direction::Write]
                .into_iter()
                .any(|direction| spec.filter.exits(msr, direction))
        };
        for promise in empty_promises(&cpuid, spec.cpuid, exits) {
            tracing::warn!("{promise}");
        }
        if spec.vm.vcpus > 1 {
            for place in cpuid::same_ids(spec.cpuid) {
                tracing::warn!(
                    "CPUID {place}, gives all vCPUs the same id, by the profile's [[cpuid]] or a \
                     plugin's; guests may find the first vCPU only"
                );
            }
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

        let gate = Arc::new(Gate::new(Order::Run));
        let serial_interrupt = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)
            .map_err(|error| Refused { step: "make an event for the console", error })?;
        vm.register_irqfd(&serial_interrupt, SERIAL_IRQ)
            .map_err(refused("connect the console's interrupt"))?;
        let console = Console::new(serial_interrupt, spec.output, Arc::clone(&gate));
        let fw_cfg = FwCfg::new(spec.vm.memory, spec.vm.vcpus);
        let power = PowerEvents::new(sci_of(&vm));
        let devices = Arc::new(Devices::new(console, fw_cfg, power));

        let entry = boot::load(&memory, spec.boot, spec.vm.vcpus)?;

        let mut fds = Vec::new();
        let mut msrs = Vec::new();
        for &id in &vcpus {
            let leaves = cpuid::of_vcpu(&cpuid, id, spec.vm.vcpus, spec.cpuid);
            let (fd, own_msrs) = create_vcpu(&vm, id, &leaves)?;
            fds.push(fd);
            msrs.push(own_msrs);
        }
        // Every vCPU but the first waits for INIT and SIPI.
        if let Some(first) = fds.first() {
            enter_at(first, &entry).map_err(refused("set the first vCPU's registers"))?;
        }

        let host = Arc::new(KvmHost::new(&kvm, &vm, &msrs, Ram(memory.clone()))?);
        let parts = vcpus.into_iter().zip(fds);
        let parts = parts.filter_map(|(id, fd)| Some((id, fd, host.as_guest(id)?.clone())));
        let vcpus = parts.map(|(id, fd, kernel)| Vcpu {
            id,
            fd,
            kernel,
            devices: Arc::clone(&devices),
            host: Arc::clone(&host),
            gate: Arc::clone(&gate),
        });
        Ok(Vm { vcpus: vcpus.collect(), devices, gate, host, _vm: vm, _memory: memory })
    }

    /// What this VM offers to plugins.
    pub fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host) as Arc<dyn Host>
    }
}

/// Where KVM keeps a page of 1:1 page tables, and three pages of task state
/// (KVM api 4.35 and 4.36); QEMU and Firecracker use these too.
pub(crate) const IDENTITY_MAP: u64 = 0xfffb_c000;
pub(crate) const TASK_STATE: usize = 0xfffb_d000;

/// COM1's line on PIC and IOAPIC.
const SERIAL_IRQ: u32 = 4;

/// The line of the SCI. It has a level, and so no event can stand for it.
fn sci_of(vm: &Arc<VmFd>) -> impl Fn(Level) + Send + use<> {
    let vm = Arc::clone(vm);
    move |level| {
        if let Err(error) = vm.set_irq_line(SCI.into(), level == Level::High) {
            // The guest can still look at the register.
            tracing::debug!(%error, "cannot set the level of the SCI");
        }
    }
}

pub(crate) fn refused(step: &'static str) -> impl Fn(kvm_ioctls::Error) -> BuildError {
    move |error| BuildError::Step(Refused { step, error: error.into() })
}

fn checked_vcpus(kvm: &Kvm, asked: u32) -> Result<Vec<VcpuId>, BuildError> {
    let limit = kvm.get_max_vcpus().min(kvm.get_max_vcpu_id());
    let limit = u32::try_from(limit).unwrap_or(u32::MAX).min(MAX_VCPUS);
    match asked {
        0 => Err(BuildError::Vcpus { asked, limit }),
        _ if asked > limit => Err(BuildError::Vcpus { asked, limit }),
        _ => Ok((0..asked).map(VcpuId).collect()),
    }
}

pub(crate) fn supported_cpuid(kvm: &Kvm) -> Result<Vec<CpuidEntry>, BuildError> {
    let mut entries = wasmsr_kvm::supported_cpuid(kvm)?;
    if kvm.check_extension(Cap::TscDeadlineTimer) {
        cpuid::add_tsc_deadline(&mut entries);
    }
    Ok(entries)
}

pub(crate) fn create_vcpu(
    vm: &VmFd,
    id: VcpuId,
    leaves: &[CpuidEntry],
) -> Result<(VcpuFd, KvmMsrs), BuildError> {
    let vcpu = vm.create_vcpu(id.0.into()).map_err(refused("create a vCPU"))?;
    set_cpuid(&vcpu, leaves)?;
    let msrs = KvmMsrs::of(&vcpu)?;
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
