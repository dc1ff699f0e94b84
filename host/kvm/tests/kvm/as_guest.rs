//! What is left to KVM, beside what KVM alone does: the same guest in two VMs, in one of which
//! every access exits and is left to KVM.

use super::*;

/// Prints and goes on behind the instruction.
const PRINTS: &[u8] = &[
    0xe6, 0x11, // out 0x11, al
    0x58, // pop ax
    0x83, 0xc0, 0x02, // add ax, 2
    0x50, // push ax
    0xcf, // iret
];

/// Zeroes EDX:EAX, so that what is printed after a #GP is the same everywhere.
const CLEAR: &[u8] = &[0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2];

/// The guest's output where KVM answers alone, and where all accesses are left to it.
fn both(code: &[u8], msrs: &[u32], cpuid: &[CpuidEntry]) -> [Vec<String>; 2] {
    let claims: Vec<_> = msrs.iter().map(|&msr| (msr, Directions::ReadWrite)).collect();
    [ExitList::default(), list(&claims)].map(|exits| {
        let mut vm = TestVm::with(code, PRINTS, &exits, cpuid);
        let mut exited = 0;
        vm.run(|_| {
            exited += 1;
            Outcome::Kernel
        });
        assert!(exits.claims.is_empty() || exited > 0, "the claims exit");
        vm.printed
    })
}

/// Reads, writes each of `values`, and reads after each.
fn accesses(msr: u32, values: &[u64]) -> Vec<u8> {
    let read = |msr| [CLEAR, &read(msr)].concat();
    let write = |value: &u64| {
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at(4);
        [
            &[0x66, 0xba][..], // mov edx, high
            high,
            &[0x66, 0xb8], // mov eax, low
            low,
            &[0x66, 0xb9], // mov ecx, msr
            &msr.to_le_bytes(),
            &[0x0f, 0x30], // wrmsr
        ]
        .concat()
    };
    let written = values.iter().flat_map(|value| [write(value), read(msr)].concat());
    read(msr).into_iter().chain(written).chain(halt()).collect()
}

fn supported() -> Vec<CpuidEntry> {
    supported_cpuid(&Kvm::new().unwrap()).unwrap()
}

/// All that KVM lets a VMM save, and MSRs that stand for features.
fn known_to_kvm() -> Vec<u32> {
    let kvm = Kvm::new().unwrap();
    let mut known = kvm.get_msr_index_list().unwrap().as_slice().to_vec();
    known.extend_from_slice(kvm.get_msr_feature_index_list().unwrap().as_slice());
    // The microcode's revision, AMD's of its levels, and some that KVM has no state of.
    known.extend([0x8b, 0x9e, 0xce, 0x17b, 0xc1, 0xc2, 0xc001_0015, 0xc001_001f, 0xc001_1029]);
    known.extend([0xdead_beef, 0x1ad, 0x606, 0x198, 0xc001_0299]);
    known.extend([0xc000_0100, 0xc000_0101, 0xc000_0102, 0xc000_0080]);
    known.sort_unstable();
    known.dedup();
    known
}

/// Whether its value depends on the moment, or an access has an effect on other MSRs or on
/// how the guest runs.
fn differs_by_itself(msr: u32) -> bool {
    // The TSC, TSC_ADJUST (below), the APIC, Hyper-V's counters and end of interrupt,
    // and x2APIC, which no filter denies.
    matches!(msr, 0x10 | 0x3b | 0x1b | 0x4000_0010 | 0x4000_0020 | 0x4000_0070..=0x4000_0072)
        || (0x800..0x900).contains(&msr)
}

/// Whether the processor and KVM, which hands it these MSRs unless they exit, do the same with
/// a value. QEMU's emulated processor takes addresses that are not canonical, and KVM's
/// code for AMD keeps 32 bits of what SYSENTER loads (`svm_set_msr`).
fn is_same_everywhere(msr: u32, value: u64) -> bool {
    match msr {
        0x175 | 0x176 => value >> 32 == 0,
        0xc000_0082 | 0xc000_0083 | 0xc000_0100..=0xc000_0102 => {
            matches!(value >> 47, 0 | 0x1_ffff)
        }
        _ => true,
    }
}

pub(super) fn what_is_left_to_kvm_is_as_if_it_had_not_exited() {
    // Bits 0, 7, 11, 12; an address in RAM, and one outside it; a sign to be extended; bytes
    // that are memory types; a canonical address and one that is not.
    let values = [
        0,
        1,
        0x1881,
        0x9001,
        0x1000_0001,
        0xffff_ffff,
        0x0007_0406_0007_0406,
        0xffff_8000_0000_1000,
        0x0123_4567_89ab_cdef,
        u64::MAX,
    ];
    let cpuid = supported();
    let msrs: Vec<u32> =
        known_to_kvm().into_iter().filter(|&msr| !differs_by_itself(msr)).collect();
    assert!(msrs.len() > 40, "{msrs:#x?}");
    let mut different = String::new();
    for msr in msrs {
        let values: Vec<u64> =
            values.into_iter().filter(|&value| is_same_everywhere(msr, value)).collect();
        let [alone, left] = both(&accesses(msr, &values), &[msr], &cpuid);
        if alone != left {
            different += &format!("{msr:#x}\n  alone {alone:?}\n  left  {left:?}\n");
        }
    }
    assert_eq!(different, "");
}

/// As in the kernel's `guest_pv_has` and `guest_cpuid_has`: what CPUID does not announce.
pub(super) fn hidden_features_have_no_msrs() {
    let mut cpuid = supported();
    // Neither KVM's leaves nor SPEC_CTRL and its kind.
    cpuid.retain(|entry| entry.function >> 8 != 0x40_0000);
    for entry in &mut cpuid {
        if matches!(entry.function, 7 | 0x8000_0008) {
            (entry.ebx, entry.edx) = (0, 0);
        }
    }
    let msrs = [0x11, 0x12, 0x48, 0x10a, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d03, 0x4b56_4d04];
    for msr in msrs {
        let [alone, left] = both(&accesses(msr, &[0, 1, 0x9001]), &[msr], &cpuid);
        assert_eq!(left, alone, "{msr:#x}");
        if msr >= 0x4b56_4d00 {
            assert_eq!(alone.first().map(String::as_str), Some("#GP"), "{msr:#x}");
        }
    }
}

/// SDM volume 3, "Time-Stamp Counter Adjustment": either moves the other.
pub(super) fn the_guests_clock_moves_as_by_its_own_writes() {
    const TSC: u32 = 0x10;
    const ADJUST: u32 = 0x3b;
    let code =
        [write(TSC, 0x4000_0000), read(ADJUST), write(ADJUST, 0), read(ADJUST), halt()].concat();
    let claims = list(&[(TSC, Directions::ReadWrite), (ADJUST, Directions::ReadWrite)]);
    let [alone, left] = [ExitList::default(), claims].map(|exits| {
        let mut vm = TestVm::with(&code, PRINTS, &exits, &supported());
        let before = vm.msrs.read(MsrIndex(TSC)).unwrap();
        vm.run(|_| Outcome::Kernel);
        let after = vm.msrs.read(MsrIndex(TSC)).unwrap();
        let hz = u64::from(vm.vcpu.get_tsc_khz().unwrap()) * 1000;
        assert!(after >= before && after - before < hz, "it is back: {before} {after}");
        vm.printed
    });
    // Low and high half, after each write. The moment of the write decides the first.
    let others = |printed: Vec<String>| printed.into_iter().skip(2).collect::<Vec<_>>();
    assert_eq!(alone.len(), 4, "{alone:?}");
    assert_ne!(left.first().map(String::as_str), Some("0x0"), "{left:?}");
    assert_eq!(others(left), others(alone));
}

/// SDM volume 3, "IA-32e mode": LME cannot change while the guest pages.
pub(super) fn paging_guests_keep_their_mode() {
    const EFER: MsrIndex = MsrIndex(0xc000_0080);
    const LME: u64 = 1 << 8;
    const LMA: u64 = 1 << 10;
    let vm = TestVm::new(&halt(), &ExitList::default());
    let host = vm.host();
    let kernel = host.as_guest(VcpuId(0)).unwrap();
    assert!(kernel.write(EFER, LME), "this guest does not page yet");
    assert!(kernel.write(EFER, 0));

    let mut registers = vm.vcpu.get_sregs().unwrap();
    registers.cr0 |= 1 << 31 | 1;
    registers.cr4 |= 1 << 5;
    registers.efer = LME | LMA;
    (registers.cs.l, registers.cs.db) = (1, 0);
    vm.vcpu.set_sregs(&registers).unwrap();
    assert!(vm.vcpu.get_sregs().unwrap().cr0 & 1 << 31 != 0, "it pages");
    assert!(!kernel.write(EFER, LMA));
    assert_eq!(kernel.read(EFER), Some(LME | LMA));
    assert!(kernel.write(EFER, LME | LMA | 1), "SCE may change");
    assert_eq!(kernel.read(EFER), Some(LME | LMA | 1));
}

/// A guest chooses MSR and value. Among them are a local APIC over the second VM's code,
/// modes, addresses of structures that KVM writes, and memory types.
pub(super) fn no_value_spoils_a_later_answer() {
    let vm = TestVm::new(&halt(), &ExitList::default());
    let host = vm.host();
    let kernel = host.as_guest(VcpuId(0)).unwrap();
    let mut values = vec![0xffff_f900, 0xffff_f001, 0xffff_f800, 0x500, 0xd01, u64::MAX, 1 << 12];
    // A generator with a period of 2^64 (Knuth's MMIX), so that a failure can be repeated.
    let mut state = 1_u64;
    values.extend((0..8).map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> (state % 60)
    }));
    for msr in known_to_kvm().into_iter().map(MsrIndex) {
        for &value in &values {
            let _ = kernel.write(msr, value);
            assert!(kernel.write(MsrIndex(KNOWN), value & 0xffff), "after {msr} {value:#x}");
            assert_eq!(kernel.read(MsrIndex(KNOWN)), Some(value & 0xffff), "{msr} {value:#x}");
            assert_eq!(kernel.read(MsrIndex(UNKNOWN)), None);
            assert!(!kernel.write(MsrIndex(UNKNOWN), value), "after {msr} {value:#x}");
        }
    }
}
