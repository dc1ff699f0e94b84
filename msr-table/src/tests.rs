//! The table is sorted, its names are unique, and it has what public reports name.

use std::collections::BTreeMap;

use super::*;

extern crate std;

#[test]
fn rows_are_sorted_and_unique() {
    assert!(all().is_sorted_by(|a, b| a.index < b.index));
    assert!(all().len() > 900, "{}", all().len());
}

#[test]
fn every_name_leads_to_one_msr() {
    let mut seen = BTreeMap::new();
    for (name, index) in names() {
        let other = seen.insert(name.to_ascii_lowercase(), index);
        assert_eq!(other, None, "{name}");
        assert_eq!(index_of(name), Some(index), "{name}");
        assert_eq!(index_of(&name.to_ascii_lowercase()), Some(index), "{name}");
    }
    for msr in all() {
        assert_eq!(name(msr.index), Some(msr.name));
        assert_eq!(find(msr.index), Some(msr));
        for alias in msr.aliases {
            assert_eq!(index_of(alias), Some(msr.index), "{alias}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for index in [0x2, 0xdead_beef, u32::MAX] {
        assert_eq!((name(index), find(index).is_none()), (None, true), "{index:#x}");
    }
    for name in ["", "_", "IA32_", "IA32_TIME_STAMP_COUNTER ", "IA32_MC32_CTL", "ZZZ", "aaa"] {
        assert_eq!(index_of(name), None, "{name}");
    }
}

/// Ranges of the tables become one row each, and both manuals' names lead there.
#[test]
fn ranges_are_rows() {
    for (index, name, alias) in [
        (0x40d, "IA32_MC3_STATUS", "MSR_IA32_MC3_STATUS"),
        (0x283, "IA32_MC3_CTL2", "MSR_IA32_MC3_CTL2"),
        (0x20f, "IA32_MTRR_PHYSMASK7", "MTRRphysMask7"),
        (0x187, "IA32_PERFEVTSEL1", "MSR_P6_EVNTSEL1"),
        (0x680, "MSR_LASTBRANCH_0_FROM_IP", "MSR_LBR_NHM_FROM"),
        (0x821, "IA32_X2APIC_IRR1", "ia32_x2apic_irr1"),
        (0xc001_0205, "MSR_F15H_PERF_CTR2", "PERF_CTR2"),
        (0x1605, "IA32_LBR_5_TO_IP", "MSR_ARCH_LBR_TO_5"),
        (0xc000_2012, "MSR_AMD64_SMCA_MC1_ADDR", "MCA_ADDR_BANK1"),
    ] {
        assert_eq!(super::name(index), Some(name));
        assert_eq!(index_of(alias), Some(index));
    }
}

/// MSRs of public reports about guests under KVM, Xen, bhyve and VMware.
#[test]
fn what_reports_name_has_a_name() {
    let ranges: &[(u32, u32)] = &[
        (0x0, 0x1),
        (0x10, 0x12),
        (0x17, 0x17),
        (0x1b, 0x1b),
        (0x2a, 0x2a),
        (0x2c, 0x2c),
        (0x33, 0x35),
        (0x3a, 0x3b),
        (0x48, 0x49),
        (0x4e, 0x4f),
        (0x79, 0x79),
        (0x8b, 0x8b),
        (0x8c, 0x8f),
        (0xc1, 0xc8),
        (0xcd, 0xcf),
        (0xe1, 0xe2),
        (0xe4, 0xe4),
        (0xe7, 0xe8),
        (0xfe, 0xfe),
        (0x10a, 0x10b),
        (0x10f, 0x10f),
        (0x119, 0x119),
        (0x11e, 0x11e),
        (0x122, 0x123),
        (0x13c, 0x13c),
        (0x140, 0x140),
        (0x150, 0x150),
        (0x174, 0x176),
        (0x179, 0x17b),
        (0x17f, 0x17f),
        (0x186, 0x18d),
        (0x198, 0x19d),
        (0x1a0, 0x1a0),
        (0x1a2, 0x1a2),
        (0x1a4, 0x1a4),
        (0x1a6, 0x1a7),
        (0x1aa, 0x1aa),
        (0x1ad, 0x1b2),
        (0x1c4, 0x1c5),
        (0x1c8, 0x1c9),
        (0x1d9, 0x1d9),
        (0x1db, 0x1de),
        (0x1f1, 0x1f3),
        (0x1fc, 0x1fc),
        (0x200, 0x213),
        (0x250, 0x250),
        (0x277, 0x277),
        (0x280, 0x29f),
        (0x2ff, 0x2ff),
        (0x345, 0x345),
        (0x38d, 0x392),
        (0x3f1, 0x3f2),
        (0x3f6, 0x3fa),
        (0x3fc, 0x3fe),
        (0x400, 0x47f),
        (0x480, 0x493),
        (0x4c1, 0x4c8),
        (0x4e0, 0x4e0),
        (0x560, 0x561),
        (0x570, 0x572),
        (0x580, 0x587),
        (0x600, 0x603),
        (0x606, 0x606),
        (0x60a, 0x60d),
        (0x610, 0x611),
        (0x613, 0x614),
        (0x618, 0x619),
        (0x61b, 0x61c),
        (0x61e, 0x61e),
        (0x620, 0x621),
        (0x630, 0x635),
        (0x638, 0x63b),
        (0x640, 0x642),
        (0x648, 0x650),
        (0x65c, 0x65c),
        (0x660, 0x660),
        (0x680, 0x6a0),
        (0x6b0, 0x6b1),
        (0x6c0, 0x6e1),
        (0x770, 0x777),
        (0x802, 0x803),
        (0x808, 0x808),
        (0x80a, 0x80b),
        (0x80d, 0x80d),
        (0x80f, 0x828),
        (0x82f, 0x830),
        (0x832, 0x839),
        (0x83e, 0x83f),
        (0xc80, 0xc82),
        (0xc8d, 0xc9f),
        (0xd90, 0xd90),
        (0xd93, 0xd93),
        (0xda0, 0xda0),
        (0xdc0, 0xddf),
        (0x4000_0000, 0x4000_0003),
        (0x4000_0020, 0x4000_0023),
        (0x4000_0070, 0x4000_0073),
        (0x4000_0080, 0x4000_0084),
        (0x4000_0090, 0x4000_009f),
        (0x4000_00b0, 0x4000_00b7),
        (0x4000_0100, 0x4000_0108),
        (0x4b56_4d00, 0x4b56_4d08),
        (0xc000_0080, 0xc000_0084),
        (0xc000_00e7, 0xc000_00e9),
        (0xc000_0100, 0xc000_0104),
        (0xc001_0000, 0xc001_0007),
        (0xc001_0010, 0xc001_0010),
        (0xc001_0015, 0xc001_001b),
        (0xc001_001d, 0xc001_001d),
        (0xc001_001f, 0xc001_0020),
        (0xc001_0022, 0xc001_0022),
        (0xc001_0030, 0xc001_0035),
        (0xc001_0041, 0xc001_0042),
        (0xc001_0055, 0xc001_0056),
        (0xc001_0058, 0xc001_0058),
        (0xc001_0060, 0xc001_006b),
        (0xc001_0070, 0xc001_0071),
        (0xc001_0073, 0xc001_0074),
        (0xc001_0111, 0xc001_011b),
        (0xc001_011e, 0xc001_011f),
        (0xc001_0130, 0xc001_0136),
        (0xc001_0140, 0xc001_0141),
        (0xc001_0200, 0xc001_020b),
        (0xc001_0292, 0xc001_0294),
        (0xc001_0296, 0xc001_0296),
        (0xc001_0299, 0xc001_029b),
        (0xc001_02b0, 0xc001_02b4),
        (0xc001_02f0, 0xc001_02f1),
        (0xc001_1002, 0xc001_1005),
        (0xc001_1019, 0xc001_101b),
        (0xc001_1020, 0xc001_1023),
        (0xc001_1027, 0xc001_102e),
        (0xc001_1030, 0xc001_103d),
        (0xc001_10a2, 0xc001_10a2),
    ];
    let missing = ranges.iter().flat_map(|&(first, last)| first..=last);
    let missing: std::vec::Vec<_> =
        missing.filter(|&index| name(index).is_none()).map(|i| std::format!("{i:#x}")).collect();
    assert!(missing.is_empty(), "{}", missing.join(" "));
}

/// Every row has its source, and what a person may print is one line.
#[test]
fn texts_are_fit_for_people() {
    for msr in all() {
        assert!(!msr.source.is_empty() && msr.name.len() <= 48, "{}", msr.name);
        for text in [msr.host, msr.note, msr.wanted].into_iter().flatten() {
            assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", msr.name);
        }
    }
}

#[test]
fn a_mistyped_name_has_a_nearest() {
    for (typed, meant) in [
        ("IA32_TIMESTAMP_COUNTER", "IA32_TIME_STAMP_COUNTER"),
        ("MSR_PLATFORM_INF", "MSR_PLATFORM_INFO"),
        ("ia32_arch_capabilites", "IA32_ARCH_CAPABILITIES"),
        ("IA32_MC3_STATS", "IA32_MC3_STATUS"),
    ] {
        assert_eq!(nearest(typed), Some(meant));
    }
    for far in ["", "x", "hello", "no-such-register-anywhere", &"A".repeat(4096)] {
        assert_eq!(nearest(far), None, "{far}");
    }
}
