//! Firecracker's custom CPU templates, as `docs/cpu_templates/` of its
//! repository describes them and `src/vmm/src/cpu_config/` reads them.

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// A template. Other keys are refused, as Firecracker does.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    #[serde(default)]
    pub(crate) msr_modifiers: Vec<MsrModifier>,
    #[serde(default)]
    pub(crate) cpuid_modifiers: Vec<CpuidModifier>,
    #[serde(default)]
    pub(crate) kvm_capabilities: Vec<String>,
    /// For Arm; so is `reg_modifiers`.
    #[serde(default)]
    pub(crate) vcpu_features: Vec<de::IgnoredAny>,
    #[serde(default)]
    pub(crate) reg_modifiers: Vec<de::IgnoredAny>,
}

/// A change of one MSR's value at boot. A later change of the same MSR is applied to the
/// result of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MsrModifier {
    #[serde(deserialize_with = "number")]
    pub(crate) addr: u32,
    pub(crate) bitmap: Bitmap,
}

/// The changes of one leaf and subleaf of CPUID. A later change of the same register is
/// applied to the result of an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CpuidModifier {
    #[serde(deserialize_with = "number")]
    pub(crate) leaf: u32,
    #[serde(deserialize_with = "number")]
    pub(crate) subleaf: u32,
    /// KVM's flags of the entry (`struct kvm_cpuid_entry2`).
    #[serde(default)]
    pub(crate) flags: u32,
    pub(crate) modifiers: Vec<RegisterModifier>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterModifier {
    pub(crate) register: Register,
    #[serde(deserialize_with = "bitmap_of_32")]
    pub(crate) bitmap: Bitmap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

impl Template {
    /// Everything in `json` that is not a part of a template, each with where it is.
    pub(crate) fn mistakes(json: &Value, path: &str) -> Vec<String> {
        let mut mistakes = Vec::new();
        match json.get("msr_modifiers") {
            Some(Value::Array(modifiers)) => {
                let path = format!("{path}msr_modifiers");
                each::<MsrModifier>(modifiers, &path, &mut mistakes);
            }
            Some(_) => mistakes.push(format!("{path}msr_modifiers: expected a list")),
            None => {}
        }
        match json.get("cpuid_modifiers") {
            Some(Value::Array(leaves)) => {
                for (place, leaf) in leaves.iter().enumerate() {
                    let path = format!("{path}cpuid_modifiers[{place}]");
                    let before = mistakes.len();
                    if let Some(Value::Array(modifiers)) = leaf.get("modifiers") {
                        let path = format!("{path}.modifiers");
                        each::<RegisterModifier>(modifiers, &path, &mut mistakes);
                    }
                    let error = CpuidModifier::deserialize(leaf).err();
                    if let Some(error) = error.filter(|_| mistakes.len() == before) {
                        mistakes.push(format!("{path}: {error}"));
                    }
                }
            }
            Some(_) => mistakes.push(format!("{path}cpuid_modifiers: expected a list")),
            None => {}
        }
        let error = Template::deserialize(json).err().filter(|_| mistakes.is_empty());
        mistakes.extend(error.map(|error| match path.strip_suffix('.') {
            Some(key) => format!("{key}: {error}"),
            None => error.to_string(),
        }));
        mistakes
    }
}

/// Adds what is wrong with the entries of a list.
fn each<'de, T: Deserialize<'de>>(list: &'de [Value], path: &str, mistakes: &mut Vec<String>) {
    for (place, entry) in list.iter().enumerate() {
        mistakes
            .extend(T::deserialize(entry).err().map(|error| format!("{path}[{place}]: {error}")));
    }
}

/// Bits to set, clear or keep: the characters `1`, `0` and `x`; the last character is bit
/// 0, and missing ones are `x`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Bitmap {
    /// No bit outside `mask`.
    pub(crate) value: u64,
    pub(crate) mask: u64,
}

impl Bitmap {
    /// The bitmap with the effect of this one followed by the other.
    pub(crate) fn then(self, later: Bitmap) -> Bitmap {
        Bitmap { value: self.value & !later.mask | later.value, mask: self.mask | later.mask }
    }

    fn parse(text: &str, bits: usize) -> Result<Self, String> {
        let digits = text.strip_prefix("0b").unwrap_or(text);
        let mut bitmap = Bitmap::default();
        let mut bit = 1_u64;
        for (place, digit) in digits.chars().rev().filter(|&digit| digit != '_').enumerate() {
            if place == bits {
                let shown: String = text.chars().take(80).collect();
                return Err(format!("bitmap `{shown}` has more than {bits} bits"));
            }
            match digit {
                'x' => {}
                '0' => bitmap.mask |= bit,
                '1' => {
                    bitmap.mask |= bit;
                    bitmap.value |= bit;
                }
                _ => {
                    return Err(format!(
                        "bitmap `{text}` has `{digit}`, expected `0`, `1`, `x` or `_`"
                    ));
                }
            }
            bit <<= 1;
        }
        Ok(bitmap)
    }
}

impl<'de> Deserialize<'de> for Bitmap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Bitmap::parse(&text, 64).map_err(de::Error::custom)
    }
}

fn bitmap_of_32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bitmap, D::Error> {
    let text = String::deserialize(deserializer)?;
    Bitmap::parse(&text, 32).map_err(de::Error::custom)
}

/// A number as Firecracker takes it: text with a prefix.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (digits, radix) = match (text.strip_prefix("0x"), text.strip_prefix("0b")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 2),
        _ => ("", 10),
    };
    let unsigned = digits.chars().all(|digit| digit.is_digit(radix));
    let number = unsigned.then(|| u32::from_str_radix(digits, radix).ok()).flatten();
    number.ok_or_else(|| {
        de::Error::custom(format_args!(
            "`{text}` is not a number of 32 bits; write it as \"0x10a\" or \"0b1010\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, value: u64, mask: u64) {
        assert_eq!(Bitmap::parse(text, 64), Ok(Bitmap { value, mask }), "{text}");
    }

    #[test]
    fn bitmaps_are_read_from_the_right() {
        check("0b1x0", 0b100, 0b101);
        check("0b0101_xxxx", 0x50, 0xf0);
        check("0b0_101_xx_xx", 0x50, 0xf0);
        check("101", 0b101, 0b111);
        check("", 0, 0);
        check(&"1".repeat(64), u64::MAX, u64::MAX);
        check(&format!("0b1{}", "x".repeat(63)), 1 << 63, 1 << 63);
        // A separator is not a bit, wherever it is.
        check(&format!("0b__{}", "0".repeat(64)), 0, u64::MAX);
    }

    #[test]
    fn what_is_no_bitmap_is_shown() {
        for (text, part) in [
            ("0b12", "`2`"),
            ("0b0X", "`X`"),
            ("0x10a", "`a`"),
            ("0b 1", "` `"),
            (&"x".repeat(65), "more than 64 bits"),
        ] {
            let error = Bitmap::parse(text, 64).unwrap_err();
            assert!(error.contains(text) && error.contains(part), "{error}");
        }
    }

    #[test]
    fn registers_of_cpuid_have_32_bits() {
        let register = |bitmap: &str| {
            let json = format!(r#"{{"register": "edx", "bitmap": "{bitmap}"}}"#);
            serde_json::from_str::<RegisterModifier>(&json).map(|modifier| modifier.bitmap)
        };
        assert_eq!(register(&"1".repeat(32)).unwrap().value, u64::from(u32::MAX));
        let error = register(&"x".repeat(33)).unwrap_err().to_string();
        assert!(error.contains("more than 32 bits"), "{error}");
    }

    #[test]
    fn every_mistake_has_its_path() {
        let json = r#"{"msr_modifiers": [{"addr": "1", "bitmap": ""}, {"addr": "0x1"}],
            "cpuid_modifiers": [
                {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
                    {"register": "eex", "bitmap": "0b1"}, {"register": "eax", "bitmap": "2"}]},
                {"leaf": 1, "subleaf": "0x0", "flags": 0, "modifiers": []}]}"#;
        let mistakes = Template::mistakes(&serde_json::from_str(json).unwrap(), "");
        let parts = [
            ["msr_modifiers[0]", "`1`"],
            ["msr_modifiers[1]", "`bitmap`"],
            ["cpuid_modifiers[0].modifiers[0]", "`eex`"],
            ["cpuid_modifiers[0].modifiers[1]", "`2`"],
            ["cpuid_modifiers[1]", "integer `1`"],
        ];
        assert_eq!(mistakes.len(), parts.len(), "{mistakes:?}");
        for (mistake, parts) in mistakes.iter().zip(parts) {
            assert!(parts.iter().all(|part| mistake.contains(part)), "{mistake}");
        }
    }

    #[test]
    fn numbers_have_a_prefix() {
        let addr = |text: &str| {
            let json = format!(r#"{{"addr": "{text}", "bitmap": "0b1"}}"#);
            serde_json::from_str::<MsrModifier>(&json).map(|modifier| modifier.addr)
        };
        assert_eq!(addr("0x10a").ok(), Some(0x10a));
        assert_eq!(addr("0b1000101").ok(), Some(69));
        assert_eq!(addr("0xffffffff").ok(), Some(u32::MAX));
        for text in ["69", "", "0x", "0b", "0b2", "0x+1", "0x100000000", "0jj0"] {
            let error = addr(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn a_template_has_no_other_keys() {
        let error = serde_json::from_str::<Template>(r#"{"msr_modifier": []}"#).unwrap_err();
        assert!(error.to_string().contains("`msr_modifiers`"), "{error}");
        for text in [r#"{"msr_modifiers": [{"addr": "0x10"}]}"#, r#"{"msr_modifiers": 1}"#, "[1]"] {
            assert!(serde_json::from_str::<Template>(text).is_err(), "{text}");
        }
    }
}
