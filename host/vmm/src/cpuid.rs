//! What a guest sees of its processor: what KVM supports, with the topology
//! of this VM, and then what plugins and profile change. Pure functions.

use wasmsr_interface::{CpuidChange, VcpuId};
use wasmsr_kvm::{CpuidEntry, change_cpuid};

/// CPUID of `vcpu` in a machine of one package, with `vcpus` cores of one thread
/// each.
pub(crate) fn of_vcpu(
    supported: &[CpuidEntry],
    vcpu: VcpuId,
    vcpus: u32,
    changes: &[CpuidChange],
) -> Vec<CpuidEntry> {
    let mut entries = supported.to_vec();
    set_topology(&mut entries, vcpu, vcpus);
    change_cpuid(&mut entries, changes);
    entries
}

/// Width of a guest-physical address (leaf 0x8000_0008); 36 bits if the processor does
/// not say, as the SDM has it.
pub(crate) fn physical_address_bits(supported: &[CpuidEntry]) -> u8 {
    supported
        .iter()
        .find(|entry| entry.function == 0x8000_0008)
        .map_or(36, |entry| entry.eax.to_le_bytes()[0])
}

/// The changes that give every vCPU the same id, for a warning: guests find the others by
/// their ids.
pub(crate) fn same_ids(changes: &[CpuidChange]) -> Vec<String> {
    let ids = |change: &CpuidChange| match change.leaf {
        0x1 => ("ebx", change.ebx.bits() & 0xff00_0000),
        0xb | 0x1f | 0x8000_0026 => ("edx", change.edx.bits()),
        0x8000_001e => ("eax", change.eax.bits()),
        _ => ("", 0),
    };
    let named = changes.iter().filter_map(|change| {
        let (register, bits) = ids(change);
        let CpuidChange { leaf, subleaf, .. } = change;
        (bits != 0).then(|| format!("leaf {leaf:#x}, subleaf {subleaf:#x}, {register}"))
    });
    named.collect()
}

/// Adds the TSC deadline mode of the local APIC, which KVM never reports as
/// supported: it asks the VMM to look at `KVM_CAP_TSC_DEADLINE_TIMER` instead
/// (KVM api 4.46).
pub(crate) fn add_tsc_deadline(supported: &mut [CpuidEntry]) {
    if let Some(entry) = supported.iter_mut().find(|entry| entry.function == 1) {
        entry.ecx |= 1 << 24;
    }
}

fn set_topology(entries: &mut Vec<CpuidEntry>, vcpu: VcpuId, vcpus: u32) {
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
fn topology_level(level: u32, kind: u32, shift: u32, count: u32, apic_id: u32) -> CpuidEntry {
    CpuidEntry {
        function: 0xb,
        index: level,
        flags: CpuidEntry::INDEXED,
        eax: shift,
        ebx: count,
        ecx: kind << 8 | level,
        edx: apic_id,
        ..CpuidEntry::default()
    }
}

/// Bits that number `vcpus` processors.
fn id_bits(vcpus: u32) -> u32 {
    vcpus.next_power_of_two().trailing_zeros()
}

fn set_bit(register: &mut u32, bit: u32, on: bool) {
    *register = *register & !(1 << bit) | (u32::from(on) << bit);
}

/// The highest leaf of the range that starts at `first`.
fn highest(entries: &[CpuidEntry], first: u32) -> u32 {
    entries.iter().find(|entry| entry.function == first).map_or(0, |entry| entry.eax)
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::RegisterChange;

    use super::*;

    fn leaf(function: u32, index: u32, flags: u32, registers: [u32; 4]) -> CpuidEntry {
        let [eax, ebx, ecx, edx] = registers;
        CpuidEntry { function, index, flags, eax, ebx, ecx, edx, padding: [0; 3] }
    }

    fn supported() -> Vec<CpuidEntry> {
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
    fn find(entries: &[CpuidEntry], function: u32, index: u32) -> [u32; 4] {
        let mut found = entries.iter().filter(|e| e.function == function && e.index == index);
        let entry = found.next().unwrap_or_else(|| panic!("no leaf {function:#x}.{index}"));
        assert!(found.next().is_none(), "leaf {function:#x}.{index} twice");
        [entry.eax, entry.ebx, entry.ecx, entry.edx]
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
    fn changes_come_last() {
        let ebx = RegisterChange { set: 7, clear: !7 };
        let change = CpuidChange { ebx, ..CpuidChange::none(1, 0) };
        let entries = of_vcpu(&supported(), VcpuId(2), 3, &[change]);
        assert_eq!(find(&entries, 1, 0)[1], 7, "not even the topology is safe");
    }

    #[test]
    fn an_id_for_every_vcpu_is_noticed() {
        let ebx =
            |set| CpuidChange { ebx: RegisterChange { set, clear: 0 }, ..CpuidChange::none(1, 0) };
        assert_eq!(same_ids(&[ebx(0x00ff_ffff)]), [""; 0]);
        assert_eq!(same_ids(&[ebx(0x0100_0000)]), ["leaf 0x1, subleaf 0x0, ebx"]);
    }

    #[test]
    fn address_width_comes_from_the_processor() {
        assert_eq!(physical_address_bits(&supported()), 0x30);
        assert_eq!(physical_address_bits(&[]), 36);
    }
}
