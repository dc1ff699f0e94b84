//! Firecracker's static CPU templates, which a VM's configuration names
//! (`src/vmm/src/cpu_config/x86_64/static_cpu_templates/` of its repository).

use super::firecracker::{
    Bitmap, CpuidModifier, MsrModifier, Register, RegisterModifier, Template,
};
use crate::args::Vendor;

/// What is known of a template by its name.
pub(super) struct Static {
    pub(super) name: &'static str,
    pub(super) vendor: Vendor,
    /// The processors of hosts to which Firecracker gives it.
    pub(super) hosts: &'static str,
    /// Two lists, as most templates have one in common.
    cpuid: [&'static [Change]; 2],
    msr: Option<(u32, u64, u64)>,
}

/// Leaf, subleaf, register, bits that are set, bits that are cleared.
type Change = (u32, u32, Register, u32, u32);

/// The template of this name, in any case.
pub(super) fn find(name: &str) -> Option<&'static Static> {
    STATIC.iter().find(|known| known.name.eq_ignore_ascii_case(name))
}

impl Static {
    /// The same as a custom template.
    pub(super) fn template(&self) -> Template {
        let cpuid_modifiers =
            self.cpuid.concat().into_iter().map(|(leaf, subleaf, register, set, clear)| {
                let bitmap = Bitmap { value: set.into(), mask: (set | clear).into() };
                let modifiers = vec![RegisterModifier { register, bitmap }];
                let flags = u32::from(matches!(leaf, 0x7 | 0xd));
                CpuidModifier { leaf, subleaf, flags, modifiers }
            });
        let msr_modifiers = self
            .msr
            .map(|(addr, value, mask)| MsrModifier { addr, bitmap: Bitmap { value, mask } });
        Template {
            cpuid_modifiers: cpuid_modifiers.collect(),
            msr_modifiers: msr_modifiers.into_iter().collect(),
            ..Template::default()
        }
    }
}

use Register::{Eax, Ebx, Ecx, Edx};

const STATIC: &[Static] = &[
    Static {
        name: "C3",
        vendor: Vendor::Intel,
        hosts: "Intel Skylake, Cascade Lake and Ice Lake",
        cpuid: [
            &[],
            &[
                (0x1, 0, Eax, 0x0003_06e4, 0x0ffc_391b),
                (0x1, 0, Ecx, 0, 0x0040_dd3c),
                (0x1, 0, Edx, 0x0000_1080, 0xa864_0000),
                (0x7, 0, Ebx, 0, 0xffaf_dd3c),
                (0x7, 0, Ecx, 0, 0x4041_481e),
                (0x7, 0, Edx, 0, 0x0000_000c),
                (0xd, 0, Eax, 0, 0x0000_02f8),
                (0xd, 1, Eax, 0, 0x0000_000e),
                (0x8000_0001, 0, Ecx, 0, 0x0000_0120),
                (0x8000_0001, 0, Edx, 0, 0x0400_0000),
            ],
        ],
        msr: None,
    },
    Static {
        name: "T2",
        vendor: Vendor::Intel,
        hosts: "Intel Skylake, Cascade Lake and Ice Lake",
        cpuid: [OF_T2, T2],
        msr: None,
    },
    Static {
        name: "T2A",
        vendor: Vendor::Amd,
        hosts: "AMD Milan",
        cpuid: [
            OF_T2,
            &[
                (0x8000_0001, 0, Ecx, 0, 0x2000_01c4),
                (0x8000_0001, 0, Edx, 0, 0x0640_0000),
                (0x8000_0008, 0, Ebx, 0x001c_0004, 0x0000_0201),
            ],
        ],
        msr: None,
    },
    Static {
        name: "T2CL",
        vendor: Vendor::Intel,
        hosts: "Intel Cascade Lake and Ice Lake",
        cpuid: [
            OF_T2,
            &[
                (0x8000_0001, 0, Ecx, 0, 0x2000_01c0),
                (0x8000_0001, 0, Edx, 0, 0x07c0_0000),
                (0x8000_0008, 0, Ebx, 0, 0x0000_0200),
            ],
        ],
        msr: Some((0x10a, 0, 0xffff_ffff_e2f5_1e00)),
    },
    Static {
        name: "T2S",
        vendor: Vendor::Intel,
        hosts: "Intel Skylake and Cascade Lake",
        cpuid: [OF_T2, T2],
        msr: Some((0x10a, 0x0c0a_0c4c, u64::MAX)),
    },
];

/// The name of the template for Arm, which has no CPUID.
pub(super) fn is_arms(name: &str) -> bool {
    name.eq_ignore_ascii_case("V1N1")
}

/// The names, for an error.
pub(super) const NAMES: &str = "C3, T2, T2A, T2CL and T2S";

/// What T2 and those that are made from it have alike.
const OF_T2: &[Change] = &[
    (0x1, 0, Eax, 0x0003_06f2, 0x0ffc_390d),
    (0x1, 0, Ecx, 0, 0x0004_cdfc),
    (0x1, 0, Edx, 0x0000_1080, 0xe864_0000),
    (0x7, 0, Ebx, 0x0000_0200, 0xffef_d814),
    (0x7, 0, Ecx, 0, 0x4041_5f5e),
    (0x7, 0, Edx, 0, 0x0000_011c),
    (0xd, 0, Eax, 0, 0x0000_02f8),
    (0xd, 1, Eax, 0, 0x0000_000e),
];

/// T2's and T2S's beyond that.
const T2: &[Change] = &[
    (0x8000_0001, 0, Ecx, 0, 0x2000_0100),
    (0x8000_0001, 0, Edx, 0, 0x0400_0000),
    (0x8000_0008, 0, Ebx, 0, 0x0000_0200),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_table() {
        assert!(STATIC.iter().all(|known| NAMES.contains(known.name)));
        assert_eq!(
            NAMES.split([',', ' ']).filter(|name| *name != "and" && !name.is_empty()).count(),
            STATIC.len()
        );
        assert!(find("T2CL").is_some() && find("V1N1").is_none() && is_arms("v1n1"));
        assert_eq!(find("t2cl").unwrap().name, "T2CL");
    }

    /// `tests/data/custom_cpu_templates/T2.json` of Firecracker has its leaf 1 so.
    #[test]
    fn t2_is_what_its_custom_template_says() {
        let template = find("T2").unwrap().template();
        for (place, bitmap) in [
            (0, "0bxxxx000000000011xx00011011110010"),
            (1, "0bxxxxxxxxxxxxx0xx00xx00x0000000xx"),
            (2, "0b000x0xxxx00xx0xxxxx1xxxx1xxxxxxx"),
        ] {
            let json = format!(r#"{{"register": "eax", "bitmap": "{bitmap}"}}"#);
            let modifier: RegisterModifier = serde_json::from_str(&json).unwrap();
            assert_eq!(template.cpuid_modifiers[place].modifiers[0].bitmap, modifier.bitmap);
        }
    }
}
