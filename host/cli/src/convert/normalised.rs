//! What Firecracker decides in CPUID after a template (`docs/cpu_templates/
//! cpuid-normalization.md` of its repository, and `normalize` in
//! `src/vmm/src/cpu_config/x86_64/cpuid/`).

use wasmsr_interface::RegisterChange;

use super::cpuid::{Changes, Place};
use crate::args::Vendor;

/// Bits that Firecracker decides whatever the template says.
struct Decided {
    /// On hosts of this vendor; `None`: on all.
    vendor: Option<Vendor>,
    leaf: u32,
    /// `None`: all subleaves.
    subleaf: Option<u32>,
    register: usize,
    bits: u32,
    /// The bits of these that are 1; `None`: host or VM decide.
    value: Option<u32>,
}

const ALL: u32 = u32::MAX;
const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// The table of `cpuid-normalization.md`.
fn decided() -> Vec<Decided> {
    let all = |leaf, subleaf, register, bits, value| Decided {
        vendor: None,
        leaf,
        subleaf,
        register,
        bits,
        value,
    };
    let of = |vendor, decided: Decided| Decided { vendor: Some(vendor), ..decided };
    let intel = |decided| of(Vendor::Intel, decided);
    let amd = |decided| of(Vendor::Amd, decided);
    let mut table = vec![
        // CLFLUSH line size, ids in the package, initial APIC id.
        all(0x1, Some(0), EBX, 0xff00, Some(8 << 8)),
        all(0x1, Some(0), EBX, 0xffff_0000, None),
        // PDCM; TSC deadline; hypervisor; HTT.
        all(0x1, Some(0), ECX, 1 << 15, Some(0)),
        all(0x1, Some(0), ECX, 1 << 24 | 1 << 31, Some(1 << 24 | 1 << 31)),
        all(0x1, Some(0), EDX, 1 << 28, None),
        // Caches and core ids.
        intel(all(0x4, None, EAX, 0xffff_c000, None)),
        // Turbo boost, energy-performance bias.
        intel(all(0x6, Some(0), EAX, 1 << 1, Some(0))),
        intel(all(0x6, Some(0), ECX, 1 << 3, Some(0))),
        // FDP_EXCPTN_ONLY and the deprecated FPU CS and DS; WAITPKG.
        intel(all(0x7, Some(0), EBX, 1 << 6 | 1 << 13, Some(1 << 6 | 1 << 13))),
        intel(all(0x7, Some(0), ECX, 1 << 5, Some(0))),
        // IA32_ARCH_CAPABILITIES; topology extensions.
        amd(all(0x7, Some(0), EDX, 1 << 29, Some(0))),
        amd(all(0x8000_0001, Some(0), ECX, 1 << 22, Some(1 << 22))),
        // Threads and the size of an APIC id.
        amd(all(0x8000_0008, Some(0), ECX, 0xf0ff, None)),
    ];
    for register in [EAX, EBX, ECX, EDX] {
        // The vendor's name, but not the highest leaf.
        table.extend((register != EAX).then(|| all(0x0, Some(0), register, ALL, None)));
        table.push(intel(all(0xa, Some(0), register, ALL, Some(0))));
        table.push(all(0xb, None, register, ALL, None));
        table.push(intel(all(0x1f, None, register, ALL, None)));
        // Caches and TLBs.
        table.push(all(0x8000_0005, Some(0), register, ALL, None));
        table.push(all(0x8000_0006, Some(0), register, ALL, None));
        table.push(amd(all(0x8000_001d, None, register, ALL, None)));
        table.push(amd(all(0x8000_001e, Some(0), register, ALL, None)));
    }
    for (place, leaf) in (0x8000_0002..=0x8000_0004).enumerate() {
        for register in [EAX, EBX, ECX, EDX] {
            // "AMD EPYC"; Intel's brand string has the host's frequency.
            let text = match (place, register) {
                (0, EAX) => u32::from_le_bytes(*b"AMD "),
                (0, EBX) => u32::from_le_bytes(*b"EPYC"),
                _ => 0,
            };
            table.push(intel(all(leaf, Some(0), register, ALL, None)));
            table.push(amd(all(leaf, Some(0), register, ALL, Some(text))));
        }
    }
    table
}

/// What becomes of a template's bits that Firecracker decides itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overruled {
    /// Left out: host or VM decide, in wasmsr as in Firecracker.
    pub(super) left_out: Vec<Place>,
    /// Replaced by Firecracker's own.
    pub(super) replaced: Vec<Place>,
}

/// Gives Firecracker's own bits to a template. `vendor` is that of the host, if it is
/// known: without it, what Firecracker sets on one vendor's hosts only is the template's,
/// and what host or VM decide on either is left out.
pub(super) fn overrule(changes: &mut Changes, vendor: Option<Vendor>) -> Overruled {
    let mut overruled = Overruled::default();
    for decided in decided() {
        let of_others = match (decided.vendor, vendor) {
            (None, _) => false,
            (Some(_), None) => decided.value.is_some(),
            (Some(own), Some(host)) => own != host,
        };
        if of_others {
            continue;
        }
        let here = changes.0.iter_mut().filter(|((leaf, subleaf), _)| {
            *leaf == decided.leaf && decided.subleaf.is_none_or(|own| own == *subleaf)
        });
        for ((leaf, subleaf), registers) in here {
            let Some(change) = registers.get_mut(decided.register) else { continue };
            let place =
                |bits| Place { leaf: *leaf, subleaf: *subleaf, register: decided.register, bits };
            let given = change.bits() & decided.bits;
            match decided.value {
                None => {
                    overruled.left_out.extend((given != 0).then(|| place(given)));
                    change.set &= !given;
                    change.clear &= !given;
                }
                Some(value) => {
                    let own = RegisterChange { set: value & given, clear: !value & given };
                    let other = change.contradiction(own);
                    overruled.replaced.extend((other != 0).then(|| place(other)));
                    change.set = change.set & !given | own.set;
                    change.clear = change.clear & !given | own.clear;
                }
            }
        }
    }
    overruled.left_out.sort_unstable();
    overruled.left_out.dedup();
    overruled
}

/// Adds what Firecracker sets and clears on every guest of a host of this vendor.
pub(super) fn normalise(changes: &mut Changes, vendor: Vendor) {
    for decided in decided() {
        let (Some(value), Some(subleaf)) = (decided.value, decided.subleaf) else { continue };
        if decided.vendor.is_none_or(|own| own == vendor) {
            let own = RegisterChange { set: value, clear: !value & decided.bits };
            changes.then(decided.leaf, subleaf, decided.register, own);
        }
    }
}

/// The vendor that a template names in leaf 0, as a fingerprint does.
pub(super) fn vendor(changes: &Changes) -> Option<Vendor> {
    let [_, ebx, ecx, edx] = changes.0.get(&(0, 0))?;
    let whole = |change: &RegisterChange| (change.bits() == ALL).then_some(change.set);
    let name = [whole(ebx)?, whole(edx)?, whole(ecx)?].map(u32::to_le_bytes).concat();
    match name.as_slice() {
        b"GenuineIntel" => Some(Vendor::Intel),
        b"AuthenticAMD" => Some(Vendor::Amd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(leaf: u32, subleaf: u32, register: usize, set: u32, clear: u32) -> Changes {
        let mut changes = Changes::default();
        changes.then(leaf, subleaf, register, RegisterChange { set, clear });
        changes
    }

    #[test]
    fn ids_of_vcpus_are_never_the_templates() {
        let mut changes = one(0x1, 0, EBX, 0x0500_0000, 0xfaff_ffff);
        changes.then(0xb, 1, EDX, RegisterChange::whole(3));
        let overruled = overrule(&mut changes, None);
        assert_eq!(changes.0[&(1, 0)][EBX], RegisterChange { set: 0x800, clear: 0xf7ff });
        assert_eq!(changes.0[&(0xb, 1)], [RegisterChange::default(); 4]);
        assert_eq!(overruled.left_out.len(), 2);
        assert_eq!(overruled.replaced.len(), 1, "the CLFLUSH line size");
    }

    #[test]
    fn what_firecracker_clears_stays_cleared() {
        // PDCM, as in T2.
        let mut changes = one(0x1, 0, ECX, 0, 1 << 15);
        assert_eq!(overrule(&mut changes, None), Overruled::default());
        assert_eq!(changes, one(0x1, 0, ECX, 0, 1 << 15));
        let mut changes = one(0x1, 0, ECX, 1 << 15, 0);
        assert_eq!(overrule(&mut changes, None).replaced.len(), 1);
        assert_eq!(changes, one(0x1, 0, ECX, 0, 1 << 15));
    }

    #[test]
    fn one_vendors_rules_need_its_name() {
        let asked = one(0x7, 0, EBX, 0, 1 << 13);
        for (vendor, set) in [(None, 0), (Some(Vendor::Amd), 0), (Some(Vendor::Intel), 1 << 13)] {
            let mut changes = asked.clone();
            overrule(&mut changes, vendor);
            assert_eq!(changes.0[&(7, 0)][EBX].set, set, "{vendor:?}");
        }
    }

    #[test]
    fn normalised_are_the_bits_that_no_host_decides() {
        let mut changes = Changes::default();
        normalise(&mut changes, Vendor::Amd);
        assert_eq!(changes.0[&(0x8000_0002, 0)][EAX], RegisterChange::whole(0x2044_4d41));
        assert_eq!(changes.0[&(7, 0)][EDX], RegisterChange { set: 0, clear: 1 << 29 });
        let mut changes = Changes::default();
        normalise(&mut changes, Vendor::Intel);
        assert_eq!(changes.0[&(0xa, 0)], [RegisterChange::whole(0); 4]);
        assert_eq!(changes.0[&(1, 0)][ECX].set, 1 << 24 | 1 << 31);
        assert!(!changes.0.contains_key(&(0x8000_0002, 0)), "it has the host's frequency");
    }

    #[test]
    fn a_fingerprint_names_its_vendor() {
        let mut changes = Changes::default();
        for (register, text) in [(EBX, b"Auth"), (EDX, b"enti"), (ECX, b"cAMD")] {
            changes.then(0, 0, register, RegisterChange::whole(u32::from_le_bytes(*text)));
        }
        assert_eq!(vendor(&changes), Some(Vendor::Amd));
        assert_eq!(vendor(&Changes::default()), None);
    }
}
