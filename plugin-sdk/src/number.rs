//! Numbers in configurations. TOML's integers are signed 64-bit numbers, so the
//! upper half of an MSR's values can only be written as text.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{MsrIndex, MsrRange};

/// A value of 64 bits. In a configuration, a number or a text such as
/// `"0xffffffffffffffff"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct Bits64(pub u64);

impl fmt::Display for Bits64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<'de> Deserialize<'de> for Bits64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Number { bits: 64 }).map(Bits64)
    }
}

impl<'de> Deserialize<'de> for MsrIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Index)
    }
}

impl<'de> Deserialize<'de> for MsrRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Range)
    }
}

impl Serialize for MsrRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads the index or the name of an MSR.
struct Index;

impl Index {
    fn of_text<E: de::Error>(text: &str, expected: &dyn de::Expected) -> Result<MsrIndex, E> {
        let text = text.trim();
        if text.starts_with(|first: char| first.is_ascii_alphabetic()) {
            let unknown = || {
                let shown = text.get(..64).unwrap_or(text);
                match wasmsr_msrs::nearest(text) {
                    Some(nearest) => E::custom(format_args!(
                        "`{shown}` is not the name of an MSR that wasmsr knows; the nearest is \
                         {nearest}"
                    )),
                    None => E::custom(format_args!(
                        "`{shown}` is not the name of an MSR that wasmsr knows; write its index, \
                         such as \"0x10a\""
                    )),
                }
            };
            return wasmsr_msrs::index_of(text).map(MsrIndex).ok_or_else(unknown);
        }
        let number = parse(text).and_then(|number| u32::try_from(number).ok());
        let invalid = || E::invalid_value(de::Unexpected::Str(text), expected);
        number.map(MsrIndex).ok_or_else(invalid)
    }
}

impl de::Visitor<'_> for Index {
    type Value = MsrIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an MSR: a number from 0 of at most 32 bits, or a text such as \"0x2b\" or \
             \"IA32_PAT\"",
        )
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<MsrIndex, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
        u32::try_from(number).map(MsrIndex).map_err(invalid)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<MsrIndex, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Signed(number), &self);
        u32::try_from(number).map(MsrIndex).map_err(invalid)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MsrIndex, E> {
        Index::of_text(text, &self)
    }
}

/// Reads one MSR or two with a `-` between them.
struct Range;

impl Range {
    fn single<E: de::Error>(number: u64, unexpected: de::Unexpected<'_>) -> Result<MsrRange, E> {
        let msr = u32::try_from(number).map(MsrIndex);
        let msr = msr.map_err(|_| E::invalid_value(unexpected, &Range))?;
        Ok(MsrRange { first: msr, last: msr })
    }
}

impl de::Visitor<'_> for Range {
    type Value = MsrRange;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an MSR or its name, or a range of them such as \"0xc0010200-0xc001020b\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<MsrRange, E> {
        Range::single(number, de::Unexpected::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<MsrRange, E> {
        let unexpected = de::Unexpected::Signed(number);
        match u64::try_from(number) {
            Ok(number) => Range::single(number, unexpected),
            Err(_) => Err(E::invalid_value(unexpected, &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MsrRange, E> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (Index::of_text(first, &self)?, Index::of_text(last, &self)?);
        match first <= last {
            true => Ok(MsrRange { first, last }),
            false => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// Reads a number from 0 to `2^bits - 1`.
struct Number {
    bits: u32,
}

impl Number {
    fn check<E: de::Error>(&self, number: u64, unexpected: de::Unexpected<'_>) -> Result<u64, E> {
        if number.checked_shr(self.bits).unwrap_or(0) == 0 {
            Ok(number)
        } else {
            Err(E::invalid_value(unexpected, self))
        }
    }
}

impl de::Visitor<'_> for Number {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 0 of at most {} bits, or one as text such as \"0x2b\"", self.bits)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        self.check(number, de::Unexpected::Unsigned(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        let unexpected = de::Unexpected::Signed(number);
        match u64::try_from(number) {
            Ok(number) => self.check(number, unexpected),
            Err(_) => Err(E::invalid_value(unexpected, &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
        let unexpected = de::Unexpected::Str(text);
        match parse(text) {
            Some(number) => self.check(number, unexpected),
            None => Err(E::invalid_value(unexpected, &self)),
        }
    }
}

fn parse(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` accepts a sign, a register has none.
    if digits.starts_with('+') { None } else { u64::from_str_radix(digits, radix).ok() }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[track_caller]
    fn check(json: &str, bits64: Option<u64>, index: Option<u32>) {
        assert_eq!(serde_json::from_str(json).ok(), bits64.map(Bits64), "{json} of 64 bits");
        assert_eq!(serde_json::from_str(json).ok(), index.map(MsrIndex), "{json} as an MSR");
    }

    #[test]
    fn numbers_and_texts_are_read_up_to_their_width() {
        check("43", Some(43), Some(43));
        check("\"43\"", Some(43), Some(43));
        check("\"0x2b\"", Some(43), Some(43));
        check("4294967295", Some(0xffff_ffff), Some(u32::MAX));
        check("\"0x100000000\"", Some(1 << 32), None);
        check("\"0xffffffffffffffff\"", Some(u64::MAX), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for json in ["-1", "1.5", "true", "\"\"", "\"0x\"", "\"0x+1\"", "\"+1\"", "\"ten\"", "[]"] {
            check(json, None, None);
        }
        check("\"0x10000000000000000\"", None, None);
    }

    /// As in the other parts of a profile.
    #[test]
    fn names_are_indices() {
        for name in ["IA32_PAT", "ia32_pat", "MSR_IA32_CR_PAT"] {
            check(&serde_json::to_string(name).unwrap(), None, Some(0x277));
        }
        let read = |json| serde_json::from_str::<MsrRange>(json).map_err(|e| e.to_string());
        let banks = MsrRange { first: MsrIndex(0x400), last: MsrIndex(0x403) };
        assert_eq!(read("\"IA32_MC0_CTL - IA32_MC0_MISC\""), Ok(banks));
        assert_eq!(read("\"0x400-IA32_MC0_MISC\""), Ok(banks));
        let error = read("\"IA32_MC0_CTL-IA32_MC0_MISK\"").unwrap_err();
        assert!(error.contains("`IA32_MC0_MISK`") && error.contains("IA32_MC0_MISC"), "{error}");
        assert_eq!(MsrIndex(0x277).described().to_string(), "0x277 (IA32_PAT)");
        assert_eq!(MsrIndex(0xdead_beef).described().to_string(), "0xdeadbeef");
    }

    #[test]
    fn ranges_have_one_end_or_two() {
        let read = |json| serde_json::from_str::<MsrRange>(json).ok();
        let range = |first, last| MsrRange { first: MsrIndex(first), last: MsrIndex(last) };
        assert_eq!(read("266"), Some(range(0x10a, 0x10a)));
        assert_eq!(read("\"0x10a\""), Some(range(0x10a, 0x10a)));
        assert_eq!(read("\"0x10 - 0x1f\""), Some(range(0x10, 0x1f)));
        for json in ["\"0x1f-0x10\"", "\"0x10-\"", "\"-\"", "-1", "4294967296", "true"] {
            assert_eq!(read(json), None, "{json}");
        }
        let range = range(0x10, 0x1f);
        assert_eq!(read(&serde_json::to_string(&range).unwrap()), Some(range));
        assert!(range.contains(MsrIndex(0x1f)) && !range.contains(MsrIndex(0x20)));
    }

    #[test]
    fn the_refusal_shows_the_value_and_what_would_do() {
        let error = serde_json::from_str::<MsrIndex>("-1").unwrap_err().to_string();
        assert!(error.contains("`-1`") && error.contains("at most 32 bits"), "{error}");
    }
}
