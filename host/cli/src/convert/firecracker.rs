//! Firecracker's custom CPU templates, as `docs/cpu_templates/` of its
//! repository describes them and `src/vmm/src/cpu_config/` reads them.

use serde::{Deserialize, Deserializer, de};

/// A template. Other keys are refused, as Firecracker does.
#[derive(Debug, Deserialize)]
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

/// Where a template changes CPUID.
#[derive(Debug, Deserialize)]
pub(crate) struct CpuidModifier {
    #[serde(deserialize_with = "number")]
    pub(crate) leaf: u32,
    #[serde(deserialize_with = "number")]
    pub(crate) subleaf: u32,
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

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0b").unwrap_or(text);
        let mut bitmap = Bitmap::default();
        let mut bit = 1_u64;
        for digit in digits.chars().rev().filter(|&digit| digit != '_') {
            if bit == 0 {
                return Err(format!("bitmap `{text}` has more than 64 bits"));
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
        Bitmap::parse(&text).map_err(de::Error::custom)
    }
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
        assert_eq!(Bitmap::parse(text), Ok(Bitmap { value, mask }), "{text}");
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
            let error = Bitmap::parse(text).unwrap_err();
            assert!(error.contains(text) && error.contains(part), "{error}");
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
