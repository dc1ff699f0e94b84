//! What a guest sees of its processor: what KVM supports, with the topology
//! of this VM, and then what the plugins change. Pure functions.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};
use wasmsr_interface::{CpuidChange, VcpuId};

/// CPUID of `vcpu` in a machine of one package with `vcpus` cores of one
/// thread each.
pub(crate) fn of_vcpu(
    supported: &[kvm_cpuid_entry2],
    vcpu: VcpuId,
    vcpus: u32,
    changes: &[CpuidChange],
) -> Vec<kvm_cpuid_entry2> {
    let mut entries = supported.to_vec();
    set_topology(&mut entries, vcpu, vcpus);
    for change in changes {
        apply(&mut entries, change);
    }
    entries
}

/// Width of a guest-physical address (leaf 0x8000_0008); 36 bits where the
/// processor does not say, as the SDM has it.
pub(crate) fn physical_address_bits(supported: &[kvm_cpuid_entry2]) -> u8 {
    supported
        .iter()
        .find(|entry| entry.function == 0x8000_0008)
        .map_or(36, |entry| entry.eax.to_le_bytes()[0])
}

/// Adds the TSC deadline mode of the local APIC, which KVM never reports as
/// supported: it asks the VMM to look at `KVM_CAP_TSC_DEADLINE_TIMER` instead
/// (KVM api 4.46).
pub(crate) fn add_tsc_deadline(supported: &mut [kvm_cpuid_entry2]) {
    if let Some(entry) = supported.iter_mut().find(|entry| entry.function == 1) {
        entry.ecx |= 1 << 24;
    }
}

fn set_topology(entries: &mut Vec<kvm_cpuid_entry2>, vcpu: VcpuId, vcpus: u32) {
    let apic_id = vcpu.0;
    let bits = id_bits(vcpus);
    let several = vcpus > 1;
    // What the host's own topology leaves say is wrong here in every part.
    // Leaf 0xb is made anew; 0x1f and AMD's 0x8000_0026 say the same and more,
    // and a guest that does not find them looks at 0xb.
    entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f | 0x8000_0026));
    for entry in entries.iter_mut() {
        match entry.function {
            0x1 => {
                entry.ebx = entry.ebx & 0x0000_ffff | (vcpus.min(255) << 16) | (apic_id << 24);
                set_bit(&mut entry.ecx, 31, true);
                set_bit(&mut entry.edx, 28, several);
            }
            // Caches: nothing but the last level is shared.
            0x4 | 0x8000_001d if entry.eax & 0x1f != 0 => {
                let last_level = (entry.eax >> 5) & 7 >= 3;
                let sharing = if last_level { vcpus - 1 } else { 0 };
                entry.eax = entry.eax & !0x03ff_c000 | (sharing.min(0xfff) << 14);
                if entry.function == 0x4 {
                    let cores = (1 << bits) - 1_u32;
                    entry.eax = entry.eax & 0x03ff_ffff | (cores.min(0x3f) << 26);
                }
            }
            // CmpLegacy: several cores without hyper-threading.
            0x8000_0001 if !several => set_bit(&mut entry.ecx, 1, false),
            0x8000_0008 => {
                entry.ecx = entry.ecx & !0xf0ff | (bits << 12) | (vcpus - 1).min(0xff);
            }
            0x8000_001e => {
                entry.eax = apic_id;
                entry.ebx = apic_id & 0xff;
                entry.ecx = 0;
            }
            _ => {}
        }
    }
    if highest(entries, 0) >= 0xb {
        entries.push(topology_level(0, 1, 0, 1, apic_id));
        entries.push(topology_level(1, 2, bits, vcpus, apic_id));
    }
}

/// One subleaf of leaf 0xb (SDM volume 2, CPUID): at this level, `count`
/// logical processors differ in the low `shift` bits of their x2APIC id.
fn topology_level(level: u32, kind: u32, shift: u32, count: u32, apic_id: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function: 0xb,
        index: level,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | level,
        edx: apic_id,
        ..kvm_cpuid_entry2::default()
    }
}

/// Bits that number `vcpus` processors.
fn id_bits(vcpus: u32) -> u32 {
    vcpus.next_power_of_two().trailing_zeros()
}

fn set_bit(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !(1 << bit) | (u32::from(on) << bit);
}

fn apply(entries: &mut Vec<kvm_cpuid_entry2>, change: &CpuidChange) {
    let matches = |entry: &kvm_cpuid_entry2| {
        let indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0;
        entry.function == change.leaf && (!indexed || entry.index == change.subleaf)
    };
    let at = match entries.iter().position(matches) {
        Some(at) => at,
        None => {
            add_leaf(entries, change.leaf, change.subleaf);
            entries.len() - 1
        }
    };
    if let Some(entry) = entries.get_mut(at) {
        entry.eax = change.eax.apply(entry.eax);
        entry.ebx = change.ebx.apply(entry.ebx);
        entry.ecx = change.ecx.apply(entry.ecx);
        entry.edx = change.edx.apply(entry.edx);
    }
}

/// Appends a leaf of zeros and makes it reachable: guests do not look beyond
/// the highest leaf that the range's first one names.
fn add_leaf(entries: &mut Vec<kvm_cpuid_entry2>, leaf: u32, subleaf: u32) {
    let range = leaf & 0xffff_0000;
    if let Some(first) = entries.iter_mut().find(|entry| entry.function == range) {
        first.eax = first.eax.max(leaf);
    }
    let indexed = subleaf != 0
        || HAVE_SUBLEAVES.contains(&leaf)
        || entries.iter().any(|entry| entry.function == leaf);
    entries.push(kvm_cpuid_entry2 {
        function: leaf,
        index: subleaf,
        flags: if indexed { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
        ..kvm_cpuid_entry2::default()
    });
}

/// Leaves in which ECX selects (SDM volume 2 and APM volume 3, CPUID).
const HAVE_SUBLEAVES: &[u32] = &[
    0x4,
    0x7,
    0xb,
    0xd,
    0xf,
    0x10,
    0x12,
    0x14,
    0x17,
    0x18,
    0x1a,
    0x1b,
    0x1d,
    0x1e,
    0x1f,
    0x20,
    0x23,
    0x24,
    0x8000_001d,
    0x8000_0020,
    0x8000_0026,
];

/// The highest leaf of the range that starts at `first`.
fn highest(entries: &[kvm_cpuid_entry2], first: u32) -> u32 {
    entries.iter().find(|entry| entry.function == first).map_or(0, |entry| entry.eax)
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::RegisterChange;

    use super::*;

    fn leaf(function: u32, index: u32, flags: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
        let [eax, ebx, ecx, edx] = registers;
        kvm_cpuid_entry2 { function, index, flags, eax, ebx, ecx, edx, padding: [0; 3] }
    }

    fn supported() -> Vec<kvm_cpuid_entry2> {
        vec![
            leaf(0, 0, 0, [0xd, 0, 0, 0]),
            leaf(1, 0, 0, [0x1234, 0xaabb_0800, 1, 1]),
            leaf(4, 0, 1, [0xfc00_4121, 0, 0, 0]),
            leaf(4, 3, 1, [0xfc00_4163, 0, 0, 0]),
            leaf(7, 0, 1, [0, 0, 0, 1 << 3]),
            leaf(0xb, 0, 1, [1, 2, 0x100, 9]),
            leaf(0xb, 1, 1, [4, 16, 0x201, 9]),
            leaf(0xb, 2, 1, [0, 0, 2, 9]),
            leaf(0x4000_0000, 0, 0, [0x4000_0001, 0, 0, 0]),
            leaf(0x8000_0000, 0, 0, [0x8000_001e, 0, 0, 0]),
            leaf(0x8000_0008, 0, 0, [0x3030, 0, 0x700f, 0]),
            leaf(0x8000_001e, 0, 0, [9, 0x109, 0x301, 0]),
        ]
    }

    #[track_caller]
    fn find(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
        let mut found = entries.iter().filter(|e| e.function == function && e.index == index);
        let entry = found.next().unwrap_or_else(|| panic!("no leaf {function:#x}.{index}"));
        assert!(found.next().is_none(), "leaf {function:#x}.{index} twice");
        [entry.eax, entry.ebx, entry.ecx, entry.edx]
    }

    fn change(leaf: u32, subleaf: u32, set_edx: u32, clear_edx: u32) -> CpuidChange {
        let none = RegisterChange::default();
        let edx = RegisterChange { set: set_edx, clear: clear_edx };
        CpuidChange { leaf, subleaf, eax: none, ebx: none, ecx: none, edx, plugins: Vec::new() }
    }

    #[test]
    fn every_vcpu_has_its_own_id() {
        let entries = of_vcpu(&supported(), VcpuId(2), 3, &[]);
        let [_, ebx, ecx, edx] = find(&entries, 1, 0);
        assert_eq!(ebx, 0x0203_0800);
        assert_eq!(ecx, 1 << 31 | 1, "a hypervisor is present");
        assert_eq!(edx, 1 << 28 | 1, "several logical processors");
        assert_eq!(find(&entries, 0xb, 0), [0, 1, 0x100, 2]);
        assert_eq!(find(&entries, 0xb, 1), [2, 3, 0x201, 2]);
        assert!(!entries.iter().any(|e| e.function == 0xb && e.index > 1));
        assert_eq!(find(&entries, 0x8000_001e, 0), [2, 2, 0, 0]);
        assert_eq!(find(&entries, 0x8000_0008, 0)[2], 0x2002);
    }

    #[test]
    fn the_last_cache_is_shared_by_all() {
        let entries = of_vcpu(&supported(), VcpuId(0), 4, &[]);
        let sharing = |index| (find(&entries, 4, index)[0] >> 14) & 0xfff;
        assert_eq!((sharing(0), sharing(3)), (0, 3));
        assert_eq!(find(&entries, 4, 0)[0] >> 26, 3);
    }

    #[test]
    fn one_vcpu_is_alone() {
        let entries = of_vcpu(&supported(), VcpuId(0), 1, &[]);
        assert_eq!(find(&entries, 1, 0)[1], 0x0001_0800);
        assert_eq!(find(&entries, 1, 0)[3], 1);
        assert_eq!(find(&entries, 0xb, 1), [0, 1, 0x201, 0]);
    }

    #[test]
    fn a_change_sets_and_clears_bits_and_leaves_the_rest() {
        let entries = of_vcpu(&supported(), VcpuId(0), 1, &[change(7, 0, 1 << 29, 1 << 3)]);
        assert_eq!(find(&entries, 7, 0), [0, 0, 0, 1 << 29]);
    }

    #[test]
    fn a_new_subleaf_does_not_disturb_its_neighbours() {
        let entries = of_vcpu(&supported(), VcpuId(0), 1, &[change(7, 2, 1, 0)]);
        assert_eq!(find(&entries, 7, 0), [0, 0, 0, 1 << 3]);
        assert_eq!(find(&entries, 7, 2), [0, 0, 0, 1]);
    }

    #[test]
    fn a_new_leaf_becomes_reachable() {
        let entries = of_vcpu(
            &supported(),
            VcpuId(0),
            1,
            &[change(0x14, 0, 1, 0), change(0x4000_0005, 0, 2, 0)],
        );
        assert_eq!(find(&entries, 0, 0)[0], 0x14);
        assert_eq!(find(&entries, 0x4000_0000, 0)[0], 0x4000_0005);
        assert_eq!(find(&entries, 0x14, 0), [0, 0, 0, 1]);
        assert_eq!(find(&entries, 0x4000_0005, 0), [0, 0, 0, 2]);
    }

    #[test]
    fn address_width_comes_from_the_processor() {
        assert_eq!(physical_address_bits(&supported()), 0x30);
        assert_eq!(physical_address_bits(&[]), 36);
    }
}
