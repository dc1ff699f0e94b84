//! This crate with kvm-ioctls on real KVM, and a guest of a few bytes in real mode.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(unsafe_code, reason = "guest memory is given to KVM by its address")]

mod as_guest;

use std::process::ExitCode;
use std::ptr;

use kvm_bindings::{
    KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_regs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use libtest_mimic::{Arguments, Trial};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use wasmsr_interface::{
    CpuidChange, Direction, Directions, ExitClaim, ExitList, ExitsCause, Host, MsrAccess,
    MsrHandler, MsrIndex, MsrOp, Outcome, OutsideMemory, Reason, RegisterChange, VcpuId,
};
use wasmsr_kvm::filter::{KvmFilter, MAX_MSRS_PER_RANGE, MAX_RANGES};
use wasmsr_kvm::{
    CpuidEntry, Drained, GuestRam, KernelMsrs, KvmHost, KvmMsrs, KvmRun, Served, change_cpuid,
    drain, enable_msr_exits, set_cpuid, supported_cpuid,
};

/// Functions with their names.
macro_rules! tests {
    ($($test:path),+ $(,)?) => { [$((stringify!($test), $test as fn())),+] };
}

fn main() -> ExitCode {
    let tests = tests![
        exactly_the_claims_exit,
        the_largest_filter_is_taken,
        another_filter_takes_the_place_of_the_first,
        what_kvm_does_not_know_exits_as_unknown,
        outcomes_reach_the_guest,
        kvms_own_msrs_are_read_and_written,
        an_answer_is_in_the_registers_once_drained,
        an_exit_that_follows_another_is_told,
        changes_reach_the_vcpus_cpuid,
        a_vm_tells_the_time,
        msrs_are_used_once_cpuid_is_set,
        as_guest::what_is_left_to_kvm_is_as_if_it_had_not_exited,
        as_guest::hidden_features_have_no_msrs,
        as_guest::the_guests_clock_moves_as_by_its_own_writes,
        as_guest::paging_guests_keep_their_mode,
        as_guest::no_value_spoils_a_later_answer,
        an_access_has_its_place,
    ];
    let missing = Kvm::new().err();
    let trials = tests.into_iter().map(|(name, test)| match &missing {
        None => Trial::test(name, move || {
            test();
            Ok(())
        }),
        // The name is all that the report shows of a skipped test.
        Some(reason) => Trial::test(format!("{name} (skipped: /dev/kvm: {reason})"), || Ok(()))
            .with_ignored_flag(true),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// An MSR that KVM does not know.
const UNKNOWN: u32 = 0x474f_4f00;
/// One that KVM knows, and lets the guest write: IA32_SYSENTER_CS.
const KNOWN: u32 = 0x174;

fn exactly_the_claims_exit() {
    let guest = [read(KNOWN), write(KNOWN, 5), read(UNKNOWN), write(UNKNOWN, 6), halt()].concat();
    let claims = list(&[(KNOWN, Directions::Read), (UNKNOWN, Directions::Write)]);
    let mut vm = TestVm::new(&guest, &claims);
    let mut seen = Vec::new();
    vm.run(|access| {
        seen.push((access.index.0, access.op, access.reason));
        Outcome::ignored(access.op)
    });
    assert_eq!(
        seen,
        [
            (KNOWN, MsrOp::Read, Reason::Filter),
            // Not claimed, but KVM does not know it.
            (UNKNOWN, MsrOp::Read, Reason::Unknown),
            (UNKNOWN, MsrOp::Write(6), Reason::Filter),
        ]
    );
    assert_eq!(vm.msrs.read(MsrIndex(KNOWN)), Some(5));
}

fn the_largest_filter_is_taken() {
    let number = u32::try_from(MAX_RANGES).unwrap();
    let claims = (1..=number).map(|number| {
        let first = number << 16;
        let last = first + MAX_MSRS_PER_RANGE - 1;
        let range = format!("{first:#x}-{last:#x}").parse().unwrap();
        ExitClaim::new("p", range, Directions::ReadWrite)
    });
    let filter = KvmFilter::pack(&ExitList::from(claims.collect::<Vec<_>>())).unwrap();
    assert_eq!(filter.ranges().len(), MAX_RANGES);
    let vm = Kvm::new().unwrap().create_vm().unwrap();
    enable_msr_exits(&vm).unwrap();
    filter.install(&vm).unwrap();
}

fn another_filter_takes_the_place_of_the_first() {
    let guest = [read(KNOWN), read(KNOWN), read(KNOWN), halt()].concat();
    let mut vm = TestVm::new(&guest, &list(&[(KNOWN, Directions::Read)]));
    let host = vm.host();
    let mut exits = 0;
    vm.run(|_| {
        exits += 1;
        if exits == 2 {
            host.set_exits(&ExitList::default(), &ExitsCause::Reset).unwrap();
        }
        Outcome::Value(0)
    });
    assert_eq!(exits, 2, "the pending access is answered, the next stays in the kernel");
}

fn what_kvm_does_not_know_exits_as_unknown() {
    let guest = [read(UNKNOWN), write(UNKNOWN, 7), halt()].concat();
    let mut vm = TestVm::new(&guest, &ExitList::default());
    let mut seen = Vec::new();
    vm.run(|access| {
        seen.push((access.op.direction(), access.reason));
        Outcome::ignored(access.op)
    });
    assert_eq!(seen, [Direction::Read, Direction::Write].map(|way| (way, Reason::Unknown)));
}

fn outcomes_reach_the_guest() {
    let known = read(KNOWN);
    let guest = [read(1), write(2, 5), read(3), known, write(KNOWN, 9), read(4), read(5)].concat();
    let claims = [1, 2, 3, 4, 5, KNOWN].map(|msr| (msr, Directions::ReadWrite));
    let mut vm = TestVm::new(&guest, &list(&claims));
    assert!(vm.msrs.write(MsrIndex(KNOWN), 8));
    let end = vm.run(|access| match (access.index.0, access.op) {
        (1, _) => Outcome::Value(0x1234_5678_9abc_def0),
        (2, MsrOp::Write(5)) => Outcome::Done,
        (KNOWN, _) => Outcome::Kernel,
        (5, _) => Outcome::Stop("enough".into()),
        // 4 is not KVM's, and so #GP as well.
        (4, _) => Outcome::Kernel,
        _ => Outcome::Fault,
    });
    assert_eq!(end.as_deref(), Some("enough"));
    let printed = ["0x9abcdef0", "0x12345678", "#GP", "0x8", "0x0", "#GP"];
    assert_eq!(vm.printed, printed);
    assert_eq!(vm.msrs.read(MsrIndex(KNOWN)), Some(9));
}

fn kvms_own_msrs_are_read_and_written() {
    let vm = TestVm::new(&halt(), &list(&[(KNOWN, Directions::ReadWrite)]));
    assert!(vm.msrs.write(MsrIndex(KNOWN), 3), "the filter is not asked");
    assert_eq!(vm.msrs.read(MsrIndex(KNOWN)), Some(3));
    assert_eq!(vm.msrs.read(MsrIndex(UNKNOWN)), None);
    assert!(!vm.msrs.write(MsrIndex(UNKNOWN), 3));
}

fn an_answer_is_in_the_registers_once_drained() {
    let guest = [read(UNKNOWN), halt()].concat();
    let mut vm = TestVm::new(&guest, &ExitList::default());
    assert!(matches!(vm.vcpu.run(), Ok(VcpuExit::X86Rdmsr(_))));
    let pending = vm.vcpu.get_regs().unwrap();
    let answered = vm.kvm_run().answer(&mut Answers(|_| Outcome::Value(0x1_0000_0002)), &Nothing);
    assert_eq!(answered, Served::Done);
    assert_eq!(vm.vcpu.get_regs().unwrap().rip, pending.rip, "nothing has happened yet");

    assert_eq!(vm.drain(), Drained::Complete);
    let drained = vm.vcpu.get_regs().unwrap();
    assert_eq!((drained.rax, drained.rdx), (2, 1));
    assert_eq!(drained.rip, pending.rip + 2, "and the guest has not gone on");
    assert_eq!(vm.drain(), Drained::Complete, "once more does no harm");
    assert_eq!(vm.vcpu.get_regs().unwrap().rip, drained.rip);
}

/// The instruction's own address, which KVM has not stepped over.
fn an_access_has_its_place() {
    let guest = [write(UNKNOWN, 5), halt()].concat();
    let mut vm = TestVm::new(&guest, &ExitList::default());
    let host = vm.host();
    let mut at = None;
    vm.run(|_| {
        at = host.guest_rip(VcpuId(0));
        Outcome::Done
    });
    // Behind what sets EDX, EAX and ECX; the guest begins at 0x1000.
    assert_eq!(at, Some(0x1000 + 15));
    assert_eq!(host.guest_rip(VcpuId(1)), None);
}

fn an_exit_that_follows_another_is_told() {
    // mov eax, [0xdffe]: across the end of a page, with no memory on either side
    let guest = [&[0x66, 0xa1, 0xfe, 0xdf][..], &halt()].concat();
    let mut vm = TestVm::new(&guest, &ExitList::default());
    assert!(matches!(vm.vcpu.run(), Ok(VcpuExit::MmioRead(0xdffe, [_, _]))));
    assert_eq!(vm.kvm_run().msr_access(), None);
    assert_eq!(vm.drain(), Drained::Exit, "the second half");
    assert_eq!(vm.drain(), Drained::Complete);
    assert_eq!(vm.vcpu.get_regs().unwrap().rip, 0x1004);
}

fn changes_reach_the_vcpus_cpuid() {
    const LEAF: u32 = 0x4000_0100;
    let kvm = Kvm::new().unwrap();
    let vcpu = kvm.create_vm().unwrap().create_vcpu(0).unwrap();
    let mut entries = supported_cpuid(&kvm).unwrap();
    let theirs = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).unwrap();
    assert_eq!(entries.len(), theirs.as_slice().len());
    let ebx = RegisterChange { set: 0x4d53_5257, clear: 0 };
    change_cpuid(&mut entries, &[CpuidChange { ebx, ..CpuidChange::none(LEAF, 0) }]);
    set_cpuid(&vcpu, &entries).unwrap();

    let set = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES).unwrap();
    let is_there = |entry: &CpuidEntry| {
        set.as_slice().iter().any(|set| {
            (set.function, set.index, set.ebx) == (entry.function, entry.index, entry.ebx)
        })
    };
    let changed = entries.iter().find(|entry| entry.answers(LEAF, 0)).unwrap();
    assert!(is_there(changed));
    // Kernels before 6.5 do not tell how many there are, and the rest is zeros.
    let told = set.as_slice().iter().take_while(|entry| **entry != kvm_cpuid_entry2::default());
    assert_eq!(told.count(), entries.len());
}

/// Since Linux 6.13 MSRs that stand for features read 0 before, and take no other value.
fn msrs_are_used_once_cpuid_is_set() {
    let vcpu = Kvm::new().unwrap().create_vm().unwrap().create_vcpu(0).unwrap();
    let error = KvmMsrs::of(&vcpu).unwrap_err().to_string();
    assert!(error.contains("CPUID is not set"), "{error}");
}

fn a_vm_tells_the_time() {
    let vm = TestVm::new(&halt(), &ExitList::default());
    let host = vm.host();
    assert_eq!(host.tsc_khz(), vm.vcpu.get_tsc_khz().unwrap());
    let before = host.guest_tsc(VcpuId(0));
    assert!(host.guest_tsc(VcpuId(0)) > before);
    assert_eq!(host.vcpu_times(VcpuId(0)), None, "no thread runs it yet");
    host.enter_thread(VcpuId(0));
    assert!(host.vcpu_times(VcpuId(0)).is_none_or(|times| times.ran_ns > 0));
}

/// One vCPU in real mode, which prints what it reads, and its #GPs.
struct TestVm {
    // In the order in which they must go.
    vcpu: VcpuFd,
    msrs: KvmMsrs,
    vm: VmFd,
    kvm: Kvm,
    _memory: GuestMemoryMmap,
    printed: Vec<String>,
}

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x800;
const SIZE: u64 = 0xa000;

impl TestVm {
    /// With the CPUID that KVM supports.
    fn new(code: &[u8], exits: &ExitList) -> Self {
        let cpuid = supported_cpuid(&Kvm::new().unwrap()).unwrap();
        Self::with(code, GENERAL_PROTECTION, exits, &cpuid)
    }

    fn with(code: &[u8], handler: &[u8], exits: &ExitList, cpuid: &[CpuidEntry]) -> Self {
        let kvm = Kvm::new().unwrap();
        let vm = kvm.create_vm().unwrap();
        enable_msr_exits(&vm).unwrap();
        KvmFilter::pack(exits).unwrap().install(&vm).unwrap();

        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), SIZE.try_into().unwrap())]).unwrap();
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: SIZE,
            userspace_addr: memory.get_host_address(GuestAddress(0)).unwrap() as u64,
        };
        // SAFETY: the mapping has this size, and outlives the vCPU.
        unsafe { vm.set_user_memory_region(region) }.unwrap();
        vm.set_tss_address(0xfffb_d000).unwrap();
        memory.write_slice(code, GuestAddress(CODE)).unwrap();
        memory.write_slice(handler, GuestAddress(HANDLER)).unwrap();
        // Its vector, 13: offset and segment.
        memory.write_slice(&HANDLER.to_le_bytes()[..4], GuestAddress(13 * 4)).unwrap();

        let vcpu = vm.create_vcpu(0).unwrap();
        set_cpuid(&vcpu, cpuid).unwrap();
        let mut segments = vcpu.get_sregs().unwrap();
        (segments.cs.base, segments.cs.selector) = (0, 0);
        vcpu.set_sregs(&segments).unwrap();
        let registers = kvm_regs { rip: CODE, rsp: 0x7f0, rflags: 2, ..kvm_regs::default() };
        vcpu.set_regs(&registers).unwrap();
        let msrs = KvmMsrs::of(&vcpu).unwrap();
        TestVm { vcpu, msrs, kvm, vm, _memory: memory, printed: Vec::new() }
    }

    fn host(&self) -> KvmHost<TestRam> {
        KvmHost::new(&self.kvm, &self.vm, std::slice::from_ref(&self.msrs), TestRam).unwrap()
    }

    fn kvm_run(&mut self) -> &mut KvmRun {
        // SAFETY: kvm-bindings' `kvm_run` is the kernel's, and its vCPU is out here.
        unsafe { KvmRun::of(self.vcpu.get_kvm_run()) }
    }

    fn drain(&mut self) -> Drained {
        let run = ptr::from_mut(self.vcpu.get_kvm_run());
        // SAFETY: it is that of this vCPU, which only this thread enters.
        unsafe { drain(&self.vcpu, run) }.unwrap()
    }

    /// Runs the guest until it halts, or until an outcome ends the run.
    fn run(&mut self, answer: impl FnMut(MsrAccess) -> Outcome + Send) -> Option<String> {
        let mut handler = Answers(answer);
        let host = self.host();
        let kernel = host.as_guest(VcpuId(0)).unwrap();
        loop {
            match self.vcpu.run().unwrap() {
                VcpuExit::X86Rdmsr(_) | VcpuExit::X86Wrmsr(_) => {
                    match self.kvm_run().answer(&mut handler, kernel) {
                        Served::Done => {}
                        Served::Stop(text) => return Some(text.to_string()),
                        Served::NotMsr => panic!("it is one"),
                    }
                }
                VcpuExit::IoOut(0x10 | 0x12, value) => {
                    let half = u32::from_le_bytes(value.try_into().unwrap());
                    self.printed.push(format!("{half:#x}"));
                }
                VcpuExit::IoOut(0x11, _) => self.printed.push("#GP".to_owned()),
                VcpuExit::Hlt => return None,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Answers with a closure.
struct Answers<F>(F);

impl<F: FnMut(MsrAccess) -> Outcome + Send> MsrHandler for Answers<F> {
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        self.0(access)
    }
}

/// A kernel that knows no MSR.
struct Nothing;

impl KernelMsrs for Nothing {
    fn read(&self, _: MsrIndex) -> Option<u64> {
        None
    }

    fn write(&self, _: MsrIndex, _: u64) -> bool {
        false
    }
}

/// Tells where RAM is, and holds nothing.
struct TestRam;

impl GuestRam for TestRam {
    fn ranges(&self) -> Vec<(u64, u64)> {
        vec![(0, SIZE)]
    }

    fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory { gpa, len: out.len() })
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        Err(OutsideMemory { gpa, len: data.len() })
    }
}

fn list(claims: &[(u32, Directions)]) -> ExitList {
    let claims = claims
        .iter()
        .map(|&(msr, directions)| ExitClaim::new("p", MsrIndex(msr).into(), directions));
    ExitList::from(claims.collect::<Vec<_>>())
}

/// Reads, and prints EAX and EDX.
fn read(msr: u32) -> Vec<u8> {
    let mut code = vec![0x66, 0xb9]; // mov ecx, msr
    code.extend(msr.to_le_bytes());
    code.extend([0x0f, 0x32]); // rdmsr
    code.extend([0x66, 0xe7, 0x10]); // out 0x10, eax
    code.extend([0x66, 0x92]); // xchg edx, eax
    code.extend([0x66, 0xe7, 0x12]); // out 0x12, eax
    code
}

fn write(msr: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0x66, 0x31, 0xd2]; // xor edx, edx
    code.extend([0x66, 0xb8]); // mov eax, value
    code.extend(value.to_le_bytes());
    code.extend([0x66, 0xb9]); // mov ecx, msr
    code.extend(msr.to_le_bytes());
    code.extend([0x0f, 0x30]); // wrmsr
    code
}

fn halt() -> Vec<u8> {
    vec![0xf4]
}

/// Prints, and goes on behind the two bytes of the instruction and those that print.
const GENERAL_PROTECTION: &[u8] = &[
    0xe6, 0x11, // out 0x11, al
    0x58, // pop ax
    0x83, 0xc0, 0x0a, // add ax, 10
    0x50, // push ax
    0xcf, // iret
];
