//! The second VM: one vCPU, which executes a `rdmsr` or `wrmsr` that no filter denies.
#![expect(unsafe_code, reason = "ioctls")]

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use wasmsr_interface::MsrIndex;

use super::code::{self, Code};
use super::mapping::Mapping;
use super::site::Site;
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::refused::Refused;
use crate::run::{self, Drained};
use crate::uapi::{
    CpuidEntry, DescriptorTable, IoRun, KVM_CREATE_IRQCHIP, KVM_CREATE_VCPU, KVM_CREATE_VM,
    KVM_EXIT_IO, KVM_GET_VCPU_MMAP_SIZE, KVM_MP_STATE_RUNNABLE, KVM_RUN, KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_MP_STATE, KVM_SET_REGS, KVM_SET_TSS_ADDR, KVM_SET_USER_MEMORY_REGION, KvmRun,
    MemoryRegion, Registers, Segment, SpecialRegisters,
};
use crate::{cpuid, ioctl, registers};

/// What KVM does with a guest's write: which MSR is to be set to what through the host's
/// door, so that the guest's MSRs become what its own write would have made of them.
/// `None` if it is a #GP.
pub(super) type Written = Option<(MsrIndex, u64)>;

/// The second VM of one vCPU. The order of the members is that of their ends.
#[derive(Debug)]
pub(super) struct Reference {
    run: Mapping,
    vcpu: OwnedFd,
    msrs: KvmMsrs,
    _vm: OwnedFd,
    ram: Vec<(u64, Mapping)>,
    code: Code,
    /// Which MSRs the guest may read. That depends on its CPUID, which is fixed. Only MSRs
    /// that KVM knows are in it, some hundreds.
    readable: HashMap<MsrIndex, bool>,
    long_mode: bool,
    /// What becomes of values of MSRs that can only be written, such as IA32_PRED_CMD. They have
    /// no state, so it is always the same, and guests write some of them often.
    commands: HashMap<(MsrIndex, u64), Written>,
}

/// Where the code lies, where no RAM does: the last page below 4 GiB.
const PAGE: u64 = 0xffff_f000;
const PAGE_SIZE: u64 = 0x1000;

/// Pages that KVM needs for itself on Intel (KVM api 4.35 and 4.36).
const IDENTITY_MAP: u64 = 0xfffb_c000;
const TASK_STATE: usize = 0xfffb_d000;

/// How often a signal may interrupt one instruction. A VMM that wants its vCPU out of the guest
/// sends one again and again; so it gets it, whatever the second VM does.
const MOST_INTERRUPTIONS: u32 = 16;

/// MSRs whose value decides what another one takes: first and last of the others, and
/// the MSR that decides.
const DECIDES: [(u32, u32, MsrIndex); 3] = [
    // IA32_MCi_STATUS takes values if HWCR has McStatusWrEn (`can_set_mci_status`).
    (0x400, 0x47f, MsrIndex(0xc001_0015)),
    // CPUID faulting needs the bit in MSR_PLATFORM_INFO.
    (0x140, 0x140, MsrIndex(0xce)),
    // The hypercall page needs a guest's identity (TLFS, "Establishing the Hypercall
    // Interface").
    (0x4000_0001, 0x4000_0001, MsrIndex(0x4000_0000)),
];

/// MSRs whose writes leave nothing in themselves, but change another one, which a VMM's
/// write does not do (`intel_pmu_set_msr`, `kvm_pmu_set_msr`): they clear, or set, bits of
/// a performance monitor's global status.
const CHANGES: [(MsrIndex, MsrIndex); 3] = [
    (MsrIndex(0x390), MsrIndex(0x38e)),
    (MsrIndex(0xc000_0302), MsrIndex(0xc000_0300)),
    (MsrIndex(0xc000_0303), MsrIndex(0xc000_0300)),
];

/// Most answers in [`Reference::commands`].
const MOST_COMMANDS: usize = 64;

/// MSRs through which KVM writes to the guest's memory: KVM's own and Hyper-V's.
const WRITES_MEMORY: [(u32, u32); 3] =
    [(0x11, 0x12), (0x4000_0000, 0x4000_00ff), (0x4b56_4d00, 0x4b56_4dff)];

impl Reference {
    /// A VM with `leaves` as CPUID and as much RAM, at the same addresses, as the guest.
    pub(super) fn new(site: &Site, leaves: &[CpuidEntry]) -> Result<Self, Refused> {
        Self::make(site, leaves).map_err(|error| Refused { step: "make a second VM", error })
    }

    fn make(site: &Site, leaves: &[CpuidEntry]) -> io::Result<Self> {
        let mut ram = Vec::new();
        for &(start, length) in &site.ram {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            ram.push((start, Mapping::zeroed(length)?));
        }
        let holds = |&(start, ref ram): &(u64, Mapping)| {
            (start..start + ram.length() as u64).contains(&PAGE)
        };
        if !ram.iter().any(holds) {
            let page = usize::try_from(PAGE_SIZE).map_err(io::Error::other)?;
            ram.push((PAGE, Mapping::zeroed(page)?));
        }
        let vm = ioctl::call_for_descriptor(&site.kvm, KVM_CREATE_VM, 0)?;
        for (slot, (start, mapping)) in (0..).zip(&ram) {
            let mut region = MemoryRegion {
                slot,
                flags: 0,
                guest_phys_addr: *start,
                memory_size: mapping.length() as u64,
                userspace_addr: mapping.start().as_ptr().expose_provenance() as u64,
            };
            // SAFETY: the kernel reads the structure. The mapping outlives the VM, which
            // ends first.
            unsafe { ioctl::call(&vm, KVM_SET_USER_MEMORY_REGION, &raw mut region) }?;
        }
        let mut identity_map = IDENTITY_MAP;
        // SAFETY: the kernel reads eight bytes.
        unsafe { ioctl::call(&vm, KVM_SET_IDENTITY_MAP_ADDR, &raw mut identity_map) }?;
        ioctl::call_with(&vm, KVM_SET_TSS_ADDR, TASK_STATE)?;
        Self::with_vcpu(site, vm, ram, leaves)
    }

    fn with_vcpu(
        site: &Site,
        vm: OwnedFd,
        ram: Vec<(u64, Mapping)>,
        leaves: &[CpuidEntry],
    ) -> io::Result<Self> {
        if site.local_apic {
            ioctl::call_without(&vm, KVM_CREATE_IRQCHIP)?;
        }
        let vcpu = ioctl::call_for_descriptor(&vm, KVM_CREATE_VCPU, 0)?;
        cpuid::set_cpuid(&vcpu, leaves).map_err(io::Error::other)?;
        let msrs = KvmMsrs::of(&vcpu).map_err(io::Error::other)?;
        if site.local_apic {
            let mut state = KVM_MP_STATE_RUNNABLE;
            // SAFETY: the kernel reads one `struct kvm_mp_state`, a number.
            unsafe { ioctl::call(&vcpu, KVM_SET_MP_STATE, &raw mut state) }?;
        }
        let mut registers = registers::special(&vcpu)?;
        flat(&mut registers);
        registers::set_special(&vcpu, registers)?;
        let size = ioctl::call_without(&site.kvm, KVM_GET_VCPU_MMAP_SIZE)?;
        let size = usize::try_from(size).map_err(io::Error::other)?;
        if size < size_of::<KvmRun>().max(size_of::<IoRun>()) {
            return Err(io::Error::other(format!("a `struct kvm_run` of {size} bytes")));
        }
        let run = Mapping::shared(&vcpu, size)?;
        let code = Code::at(PAGE);
        let extended = leaves.iter().find(|leaf| leaf.answers(0x8000_0001, 0));
        let long_mode = extended.is_some_and(|leaf| leaf.edx & 1 << 29 != 0);
        let (readable, commands) = (HashMap::new(), HashMap::new());
        Ok(Reference { run, vcpu, msrs, _vm: vm, ram, code, readable, long_mode, commands })
    }

    /// Whether the guest may read `index`, which is one of `guest`'s vCPU.
    pub(super) fn may_read(&mut self, index: MsrIndex, guest: &KvmMsrs) -> Result<bool, String> {
        if let Some(&readable) = self.readable.get(&index) {
            return Ok(readable);
        }
        // What not even a VMM may read, no guest may.
        if guest.read(index).is_none() {
            return Ok(false);
        }
        let readable = self.execute(code::RDMSR, index, 0)?;
        self.readable.insert(index, readable);
        Ok(readable)
    }

    /// Whether the guest may write `value` to `index`, whose present value plays no part.
    pub(super) fn may_write(&mut self, index: MsrIndex, value: u64) -> Result<bool, String> {
        let own = self.msrs.read(index);
        let taken = self.execute(code::WRMSR, index, value)?;
        if let Some(own) = own {
            let _ = self.msrs.write(index, own);
        }
        Ok(taken)
    }

    /// Whether the guest's CPUID announces long mode (APM volume 3, leaf 0x80000001, EDX bit
    /// 29).
    pub(super) fn has_long_mode(&self) -> bool {
        self.long_mode
    }

    /// What becomes of the guest's write of `value`, where the vCPU's MSRs are `guest`.
    pub(super) fn write(
        &mut self,
        index: MsrIndex,
        value: u64,
        guest: &KvmMsrs,
    ) -> Result<Written, String> {
        for (_, _, decides) in
            DECIDES.iter().filter(|(first, last, _)| (*first..=*last).contains(&index.0))
        {
            if let Some(held) = guest.read(*decides) {
                // A KVM that does not know it does not look at it.
                let _ = self.msrs.write(*decides, held);
            }
        }
        if let Some((_, changed)) = CHANGES.iter().find(|(command, _)| *command == index)
            && let Some(before) = guest.read(*changed)
        {
            return self.change(index, value, *changed, before);
        }
        if let Some(known) = self.commands.get(&(index, value)) {
            return Ok(*known);
        }
        let own = self.msrs.read(index);
        // One that only KVM changes takes no value.
        let before = guest.read(index).filter(|before| self.msrs.write(index, *before));
        let taken = self.execute(code::WRMSR, index, value)?;
        let written = taken.then(|| (index, self.equivalent(index, value, before)));
        match own {
            // As it was: no other question must meet what this guest has written.
            Some(own) => {
                let _ = self.msrs.write(index, own);
            }
            None if self.commands.len() < MOST_COMMANDS => {
                self.commands.insert((index, value), written);
            }
            None => {}
        }
        if WRITES_MEMORY.iter().any(|(first, last)| (*first..=*last).contains(&index.0)) {
            self.ram.iter_mut().for_each(|(_, ram)| ram.forget());
        }
        Ok(written)
    }

    /// Whether KVM takes the guest's write of `value` where the MSR has the value `before`,
    /// and what a VMM reads of it then. For MSRs whose writes depend on no other one.
    pub(super) fn would_write(
        &mut self,
        index: MsrIndex,
        value: u64,
        before: Option<u64>,
    ) -> Result<Option<Option<u64>>, String> {
        let own = self.msrs.read(index);
        if let Some(before) = before {
            // One that only KVM changes takes no value.
            let _ = self.msrs.write(index, before);
        }
        let taken = self.execute(code::WRMSR, index, value)?;
        let left = self.msrs.read(index);
        if let Some(own) = own {
            let _ = self.msrs.write(index, own);
        }
        Ok(taken.then_some(left))
    }

    /// A write of `index` that shows in `changed` alone, which is `before` for the guest.
    fn change(
        &mut self,
        index: MsrIndex,
        value: u64,
        changed: MsrIndex,
        before: u64,
    ) -> Result<Written, String> {
        let same = self.msrs.write(changed, before);
        let taken = self.execute(code::WRMSR, index, value)?;
        let after = self.msrs.read(changed);
        let _ = self.msrs.write(changed, 0);
        match after.filter(|_| same) {
            Some(after) if taken => Ok(Some((changed, after))),
            None if taken => Err(format!("{} cannot be set", changed.described())),
            _ => Ok(None),
        }
    }

    /// What the host must set to have the effect of the guest's write of `value`, which
    /// has just been carried out here: `value`, if that leaves the same. KVM may have dropped
    /// bits, or extended the sign (the low addresses of performance counters); then it is
    /// what KVM has left.
    fn equivalent(&self, index: MsrIndex, value: u64, before: Option<u64>) -> u64 {
        let left = self.msrs.read(index);
        if left == Some(value) {
            return value;
        }
        let Some(left) = left else { return value };
        let restored = before.is_some_and(|before| self.msrs.write(index, before));
        let same = restored && self.msrs.write(index, value) && self.msrs.read(index) == Some(left);
        if same { value } else { left }
    }

    /// Executes the instruction at `entry`; `false` if it is a #GP.
    fn execute(&mut self, entry: u64, index: MsrIndex, value: u64) -> Result<bool, String> {
        // What KVM writes for a guest may have hit it.
        self.write_code();
        let mut registers = Registers {
            rax: value & 0xffff_ffff,
            rcx: index.0.into(),
            rdx: value >> 32,
            rsp: PAGE + code::STACK,
            rip: PAGE + entry,
            // Bit 1 is always set; interrupts are off.
            rflags: 1 << 1,
            ..Registers::default()
        };
        // SAFETY: the kernel reads one `struct kvm_regs`.
        unsafe { ioctl::call(&self.vcpu, KVM_SET_REGS, &raw mut registers) }
            .map_err(|error| format!("its registers cannot be set: {error}"))?;
        self.enter()?;
        let (reason, port) = self.exit();
        // Completes the port access; its registers are set anew before the next one.
        // SAFETY: it is the vCPU's own `struct kvm_run`, and only this thread has it.
        let drained = unsafe { run::drain(&self.vcpu, self.run.start().as_ptr()) };
        let drained = drained.map_err(|error| format!("it cannot be drained: {error}"))?;
        match (reason, port, drained) {
            (KVM_EXIT_IO, code::CARRIED_OUT, Drained::Complete) => Ok(true),
            (KVM_EXIT_IO, code::FAULTED, Drained::Complete) => Ok(false),
            _ => Err(format!("an access of {} ends in exit {reason}", index.described())),
        }
    }

    fn write_code(&mut self) {
        let code = &self.code;
        let page = self.ram.iter_mut().find_map(|(start, ram)| {
            let offset = usize::try_from(PAGE.checked_sub(*start)?).ok()?;
            (offset < ram.length()).then_some((ram, offset))
        });
        if let Some((ram, offset)) = page {
            ram.write(offset, code.bytes());
        }
    }

    fn enter(&self) -> Result<(), String> {
        for _ in 0..MOST_INTERRUPTIONS {
            match ioctl::call_without(&self.vcpu, KVM_RUN) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("it does not run: {error}")),
            }
        }
        Err(format!("{MOST_INTERRUPTIONS} signals interrupted one instruction"))
    }

    /// Reason of the exit, and the port if it is a port access.
    fn exit(&self) -> (u32, u16) {
        let start = self.run.start().as_ptr();
        // SAFETY: `make` has seen that the mapping is long enough for both, they are made of
        // integers only, and the vCPU is out of KVM_RUN.
        unsafe {
            let reason = (&raw const (*start.cast::<KvmRun>()).exit_reason).read_volatile();
            let port = (&raw const (*start.cast::<IoRun>()).port).read_volatile();
            (reason, port)
        }
    }
}

/// Protected mode without paging, with flat segments.
fn flat(registers: &mut SpecialRegisters) {
    const PE_AND_ET: u64 = 1 << 0 | 1 << 4;
    let segment = |selector, kind| Segment {
        base: 0,
        limit: u32::MAX,
        selector,
        kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Segment::default()
    };
    registers.cs = segment(code::CODE_SELECTOR, 0xb);
    registers.data = [segment(code::DATA_SELECTOR, 0x3); 5];
    let table = |offset, limit| DescriptorTable { base: PAGE + offset, limit, padding: [0; 3] };
    registers.gdt = table(code::GDT, code::GDT_LIMIT);
    registers.idt = table(code::IDT, code::IDT_LIMIT);
    registers.cr0 = PE_AND_ET;
}
