//! A guest's CPUID: asked for, changed as plugins and profile want it, and set.
#![expect(unsafe_code, reason = "ioctls")]

use std::os::fd::AsRawFd;

use wasmsr_interface::CpuidChange;

use crate::ioctl;
use crate::refused::Refused;
use crate::uapi::{
    CpuidEntry, CpuidHeader, CpuidTable, KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
    KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_GET_CPUID2, KVM_GET_SUPPORTED_CPUID, KVM_SET_CPUID2,
};

/// The most leaves and subleaves that KVM takes (`KVM_MAX_CPUID_ENTRIES`).
pub const MAX_CPUID_ENTRIES: usize = 256;

/// Why a vCPU's CPUID cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum CpuidError {
    /// More leaves than KVM takes.
    #[error(
        "CPUID has {0} leaves with the changes of profile and plugins, but KVM takes \
         {MAX_CPUID_ENTRIES}; change fewer leaves"
    )]
    TooMany(usize),
    /// KVM refuses them.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl CpuidEntry {
    /// The flag of a leaf in which ECX selects (`KVM_CPUID_FLAG_SIGNIFCANT_INDEX`).
    pub const INDEXED: u32 = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

    /// Whether it is what the guest gets for this leaf and subleaf.
    pub fn answers(&self, leaf: u32, subleaf: u32) -> bool {
        let indexed = self.flags & Self::INDEXED != 0;
        self.function == leaf && (!indexed || self.index == subleaf)
    }
}

/// What KVM can give to a guest (`KVM_GET_SUPPORTED_CPUID`); `kvm` is `/dev/kvm`.
///
/// # Errors
/// [`Refused`] with the kernel's reason.
pub fn supported_cpuid(kvm: &impl AsRawFd) -> Result<Vec<CpuidEntry>, Refused> {
    let mut cpuid = table();
    // SAFETY: the kernel writes as many entries as the header has room for: all of them.
    let got = unsafe { ioctl::call(kvm, KVM_GET_SUPPORTED_CPUID, &raw mut *cpuid) };
    match got {
        Ok(_) => Ok(cpuid.entries.into_iter().take(cpuid.header.nent as usize).collect()),
        Err(error) => Err(Refused { step: "say which CPUID it supports", error }),
    }
}

/// Makes `entries` the CPUID of a vCPU that has not run yet (`KVM_SET_CPUID2`), and has
/// KVM hold to it: its own paravirtual MSRs, such as those of kvmclock, are #GP unless
/// CPUID announces them (`KVM_CAP_ENFORCE_PV_FEATURE_CPUID`, KVM api 7.20, Linux 5.10).
/// Otherwise they stay alive where a guest must not know of KVM.
///
/// # Errors
/// [`CpuidError`] if they are too many, or if KVM refuses them.
pub fn set_cpuid(vcpu: &impl AsRawFd, entries: &[CpuidEntry]) -> Result<(), CpuidError> {
    let mut cpuid = table();
    let room = cpuid.entries.get_mut(..entries.len());
    room.ok_or(CpuidError::TooMany(entries.len()))?.copy_from_slice(entries);
    cpuid.header.nent = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    // SAFETY: the kernel reads as many entries as the header says, which are there.
    let set = unsafe { ioctl::call(vcpu, KVM_SET_CPUID2, &raw mut *cpuid) };
    set.map_err(|error| Refused { step: "set a vCPU's CPUID", error })?;
    match ioctl::enable_cap(vcpu, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1) {
        // Linux before 5.10 does not have it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        Err(error) => Err(Refused { step: "hold to CPUID in its own MSRs", error }.into()),
        Ok(()) => Ok(()),
    }
}

/// The CPUID that a vCPU has (`KVM_GET_CPUID2`); empty before it is set.
///
/// # Errors
/// [`Refused`] with the kernel's reason.
pub(crate) fn cpuid_of(vcpu: &impl AsRawFd) -> Result<Vec<CpuidEntry>, Refused> {
    let mut cpuid = table();
    // SAFETY: the kernel writes as many entries as the header has room for: all of them.
    let got = unsafe { ioctl::call(vcpu, KVM_GET_CPUID2, &raw mut *cpuid) };
    match got {
        Ok(_) => {
            let told = cpuid.entries.into_iter().take(cpuid.header.nent as usize);
            // Kernels before 6.5 leave the count as it was asked for: what follows the last
            // leaf is still zeros, which no leaf is.
            Ok(told.take_while(|entry| *entry != CpuidEntry::default()).collect())
        }
        Err(error) => Err(Refused { step: "tell a vCPU's CPUID", error }),
    }
}

/// Applies `changes` in their order. To be done last, over what the VMM itself decides.
/// A leaf that is missing and gets bits is added, starts from zeros, and becomes
/// reachable, unless the changes themselves say what the highest leaf is.
pub fn change_cpuid(entries: &mut Vec<CpuidEntry>, changes: &[CpuidChange]) {
    let has = |entries: &[CpuidEntry], change: &CpuidChange| {
        entries.iter().any(|entry| entry.answers(change.leaf, change.subleaf))
    };
    // First all new leaves, so that a change of the highest leaf comes after them.
    for change in changes {
        // What a guest reads of a missing leaf has no bits to clear.
        let sets = change.registers().iter().any(|register| register.set != 0);
        if sets && !has(entries, change) {
            add_leaf(entries, change.leaf, change.subleaf);
        }
    }
    for change in changes {
        let answers = |entry: &&mut CpuidEntry| entry.answers(change.leaf, change.subleaf);
        if let Some(entry) = entries.iter_mut().find(answers) {
            entry.eax = change.eax.apply(entry.eax);
            entry.ebx = change.ebx.apply(entry.ebx);
            entry.ecx = change.ecx.apply(entry.ecx);
            entry.edx = change.edx.apply(entry.edx);
        }
    }
}

/// Appends a leaf of zeros and makes it reachable: guests do not look beyond
/// the highest leaf that the range's first one names.
fn add_leaf(entries: &mut Vec<CpuidEntry>, leaf: u32, subleaf: u32) {
    let range = leaf & 0xffff_0000;
    if let Some(first) = entries.iter_mut().find(|entry| entry.function == range) {
        first.eax = first.eax.max(leaf);
    }
    let indexed = subleaf != 0
        || HAVE_SUBLEAVES.contains(&leaf)
        || entries.iter().any(|entry| entry.function == leaf);
    entries.push(CpuidEntry {
        function: leaf,
        index: subleaf,
        flags: if indexed { CpuidEntry::INDEXED } else { 0 },
        ..CpuidEntry::default()
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

/// Room for as many leaves as KVM takes.
fn table() -> Box<CpuidTable<MAX_CPUID_ENTRIES>> {
    let nent = u32::try_from(MAX_CPUID_ENTRIES).unwrap_or(u32::MAX);
    let entries = [CpuidEntry::default(); MAX_CPUID_ENTRIES];
    Box::new(CpuidTable { header: CpuidHeader { nent, padding: 0 }, entries })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use wasmsr_interface::RegisterChange;

    use super::*;

    fn leaf(function: u32, index: u32, flags: u32, registers: [u32; 4]) -> CpuidEntry {
        let [eax, ebx, ecx, edx] = registers;
        CpuidEntry { function, index, flags, eax, ebx, ecx, edx, padding: [0; 3] }
    }

    fn supported() -> Vec<CpuidEntry> {
        vec![
            leaf(0, 0, 0, [0xd, 0, 0, 0]),
            leaf(7, 0, 1, [0, 0, 0, 1 << 3]),
            leaf(0x4000_0000, 0, 0, [0x4000_0001, 0, 0, 0]),
        ]
    }

    fn changed(changes: &[CpuidChange]) -> Vec<CpuidEntry> {
        let mut entries = supported();
        change_cpuid(&mut entries, changes);
        entries
    }

    #[track_caller]
    fn find(entries: &[CpuidEntry], function: u32, index: u32) -> [u32; 4] {
        let mut found = entries.iter().filter(|e| e.function == function && e.index == index);
        let entry = found.next().unwrap_or_else(|| panic!("no leaf {function:#x}.{index}"));
        assert!(found.next().is_none(), "leaf {function:#x}.{index} twice");
        [entry.eax, entry.ebx, entry.ecx, entry.edx]
    }

    fn change(leaf: u32, subleaf: u32, set_edx: u32, clear_edx: u32) -> CpuidChange {
        let edx = RegisterChange { set: set_edx, clear: clear_edx };
        CpuidChange { edx, ..CpuidChange::none(leaf, subleaf) }
    }

    #[test]
    fn a_change_sets_and_clears_bits_and_leaves_the_rest() {
        let entries = changed(&[change(7, 0, 1 << 29, 1 << 3)]);
        assert_eq!(find(&entries, 7, 0), [0, 0, 0, 1 << 29]);
    }

    #[test]
    fn a_new_subleaf_does_not_disturb_its_neighbours() {
        let entries = changed(&[change(7, 2, 1, 0)]);
        assert_eq!(find(&entries, 7, 0), [0, 0, 0, 1 << 3]);
        assert_eq!(find(&entries, 7, 2), [0, 0, 0, 1]);
    }

    #[test]
    fn a_new_leaf_becomes_reachable() {
        let entries = changed(&[change(0x14, 0, 1, 0), change(0x4000_0005, 0, 2, 0)]);
        assert_eq!(find(&entries, 0, 0)[0], 0x14);
        assert_eq!(find(&entries, 0x4000_0000, 0)[0], 0x4000_0005);
        assert_eq!(find(&entries, 0x14, 0), [0, 0, 0, 1]);
        assert_eq!(find(&entries, 0x4000_0005, 0), [0, 0, 0, 2]);
    }

    #[test]
    fn the_highest_leaf_is_as_a_change_says() {
        let eax = RegisterChange::whole(0x10);
        let highest = CpuidChange { eax, ..CpuidChange::none(0, 0) };
        for changes in [[highest.clone(), change(0x14, 0, 1, 0)], [change(0x14, 0, 1, 0), highest]]
        {
            assert_eq!(find(&changed(&changes), 0, 0)[0], 0x10);
        }
    }

    #[test]
    fn clearing_what_is_missing_changes_nothing() {
        let entries = changed(&[change(0x1e, 0, 0, u32::MAX), change(7, 5, 0, 1)]);
        assert_eq!(entries, supported());
    }

    #[test]
    fn the_vendor_changes() {
        let mut vendor = CpuidChange::none(0, 0);
        [vendor.ebx, vendor.ecx, vendor.edx] =
            [0x756e_6547, 0x6c65_746e, 0x4965_6e69].map(RegisterChange::whole);
        let entries = changed(&[vendor]);
        assert_eq!(find(&entries, 0, 0), [0xd, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]);
    }

    #[test]
    fn more_leaves_than_kvm_takes_are_refused_before_it_is_asked() {
        let null = File::open("/dev/null").unwrap();
        let error = set_cpuid(&null, &[CpuidEntry::default(); MAX_CPUID_ENTRIES + 1]);
        assert!(matches!(error, Err(CpuidError::TooMany(257))), "{error:?}");
        let error = set_cpuid(&null, &[]).unwrap_err().to_string();
        assert!(error.starts_with("KVM refuses to set a vCPU's CPUID: "), "{error}");
    }
}
