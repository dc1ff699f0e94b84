//! Ranges of MSRs, both ends included, as manifests write them.

use std::fmt;
use std::str::FromStr;

use crate::index::MsrIndex;

/// MSRs from `first` to `last`, both included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MsrRange {
    first: u32,
    last: u32,
}

impl MsrRange {
    /// The range from `first` to `last`, or `None` if it runs backwards.
    pub fn new(first: MsrIndex, last: MsrIndex) -> Option<Self> {
        (first <= last).then_some(MsrRange { first: first.0, last: last.0 })
    }

    /// Lowest MSR of the range.
    pub fn first(self) -> MsrIndex {
        MsrIndex(self.first)
    }

    /// Highest MSR of the range.
    pub fn last(self) -> MsrIndex {
        MsrIndex(self.last)
    }

    /// Number of MSRs; at least 1 and at most 2^32.
    pub fn count(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Whether `index` lies within.
    pub fn contains(self, index: MsrIndex) -> bool {
        (self.first..=self.last).contains(&index.0)
    }

    /// The MSRs that both ranges hold.
    pub fn intersection(self, other: MsrRange) -> Option<MsrRange> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        MsrRange::new(MsrIndex(first), MsrIndex(last))
    }
}

impl From<MsrIndex> for MsrRange {
    fn from(index: MsrIndex) -> Self {
        MsrRange { first: index.0, last: index.0 }
    }
}

impl fmt::Display for MsrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first())
        } else {
            write!(f, "{}-{}", self.first(), self.last())
        }
    }
}

/// Why a text is not a range of MSRs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRangeError {
    /// Not a number of at most 32 bits.
    #[error(
        "`{0}` is not an MSR index; write a hexadecimal number of at most 32 bits such as 0x10a, \
         or a name"
    )]
    Index(String),
    /// A hexadecimal number as logs print it.
    #[error("`{0}` is neither a decimal number nor the name of an MSR; did you mean 0x{0}?")]
    Unprefixed(String),
    /// Not a name of the table.
    #[error(
        "`{name}` is not the name of an MSR that wasmsr knows; {}",
        match .nearest {
            Some(nearest) => format!("the nearest is {nearest}"),
            None => "write its index, such as 0x10a".to_owned(),
        }
    )]
    Name {
        /// What was written.
        name: String,
        /// The nearest name, if one is near.
        nearest: Option<&'static str>,
    },
    /// The first MSR is above the last.
    #[error("range `{0}` runs backwards; write the lower MSR first")]
    Backwards(String),
}

/// Most characters of a name that is not one, in an error.
const LONGEST_SHOWN: usize = 64;

impl FromStr for MsrRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        // Of half a range, the error names the whole.
        if [first, last].iter().any(|end| end.trim().is_empty()) {
            return Err(ParseRangeError::Index(shown(text)));
        }
        MsrRange::new(first.parse()?, last.parse()?)
            .ok_or_else(|| ParseRangeError::Backwards(text.to_owned()))
    }
}

impl FromStr for MsrIndex {
    type Err = ParseRangeError;

    /// Reads `0x10a`, a decimal number, or a name of the table in any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let is_hex = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let index = wasmsr_msrs::index_of(text).map(MsrIndex);
            let unknown = || match is_hex {
                true => ParseRangeError::Unprefixed(text.to_owned()),
                false => {
                    let nearest = wasmsr_msrs::nearest(text);
                    ParseRangeError::Name { name: shown(text), nearest }
                }
            };
            return index.ok_or_else(unknown);
        }
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let parsed = match digits {
            // `from_str_radix` takes a sign, an MSR index has none.
            Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
            Some(_) => None,
            None => text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
        };
        let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
        parsed.map(MsrIndex).ok_or_else(|| match is_hex && !is_decimal {
            true => ParseRangeError::Unprefixed(text.to_owned()),
            false => ParseRangeError::Index(shown(text)),
        })
    }
}

/// What was written, as far as an error shows it.
fn shown(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(u32, u32), &str>) {
        let got = text.parse::<MsrRange>().map(|r| (r.first, r.last)).map_err(|e| e.to_string());
        match expected {
            Ok(ends) => assert_eq!(got, Ok(ends), "{text}"),
            Err(part) => {
                let error = got.expect_err(text);
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }

    #[test]
    fn reads_what_manifests_write() {
        check("0x10a", Ok((0x10a, 0x10a)));
        check("0x40000000-0x400000ff", Ok((0x4000_0000, 0x4000_00ff)));
        check("0x40000000 - 0x400000ff", Ok((0x4000_0000, 0x4000_00ff)));
        check("266", Ok((266, 266)));
        check("0-0xffffffff", Ok((0, u32::MAX)));
    }

    /// A name stands wherever an index does, the kernel's and the manuals' alike.
    #[test]
    fn reads_names() {
        check("IA32_ARCH_CAPABILITIES", Ok((0x10a, 0x10a)));
        check("msr_ia32_arch_capabilities", Ok((0x10a, 0x10a)));
        check(" MSR_SMI_COUNT ", Ok((0x34, 0x34)));
        check("IA32_MC0_CTL-IA32_MC31_MISC", Ok((0x400, 0x47f)));
        check("0x400 - IA32_MC0_MISC", Ok((0x400, 0x403)));
        check("MSR_AMD_PSTATE_DEF_BASE-PStateDef7", Ok((0xc001_0064, 0xc001_006b)));
    }

    #[test]
    fn refuses_everything_else() {
        check("0x10b-0x10a", Err("runs backwards"));
        check("0x100000000", Err("at most 32 bits"));
        check("0x+1", Err("not an MSR index"));
        check("+1", Err("not an MSR index"));
        for text in ["", "-", "0x280-", "-0x280", " - "] {
            check(text, Err(&format!("`{text}` is not an MSR index")));
        }
        for text in ["1ad", "c0000080", "ADD"] {
            check(text, Err(&format!("did you mean 0x{text}?")));
        }
        check("0x10-1ad", Err("did you mean 0x1ad?"));
        check("123456789ab", Err("not an MSR index"));
        check("0x1-0x2-0x3", Err("not an MSR index"));
        check("IA32_TSC-0x11-0x12", Err("not an MSR index"));
        check("IA32_ARCH_CAPABILITY", Err("the nearest is IA32_ARCH_CAPABILITIES"));
        check("0x10a-IA32_NOTHING_AT_ALL_LIKE_IT", Err("write its index"));
        check(&"x".repeat(100_000), Err("not the name"));
        check("IA32_PAT-IA32_MTRRCAP", Err("runs backwards"));
    }

    #[test]
    fn count_of_the_whole_space_does_not_overflow() {
        assert_eq!("0-0xffffffff".parse::<MsrRange>().unwrap().count(), 1 << 32);
    }
}
