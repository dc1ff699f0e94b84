//! A size as people write it, kept as it was written.

use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes, and the text or number that a file has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    bytes: u64,
    written: Written,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Written {
    Number,
    Text(String),
}

impl Size {
    /// Its bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The likely meaning of a size that is not `allowed`, and what it is in bytes, to be
    /// put behind what is wrong; empty if nothing is likely.
    pub fn hint(&self, allowed: impl Fn(u64) -> bool) -> String {
        let (digits, unit) = match &self.written {
            Written::Number => (self.bytes.to_string(), ""),
            Written::Text(text) => {
                let text = text.trim();
                let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.'));
                let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
                (digits.to_owned(), unit.trim())
            }
        };
        let without = unit.trim_end_matches(['b', 'B']);
        let (why, likely) = match without {
            "" => ("a size without a unit counts bytes", "MiB".to_owned()),
            // Units of 1000, where the one of 1024 was meant.
            one if one.len() == 1 => {
                ("this unit is a power of 1000", format!("{}iB", one.to_ascii_uppercase()))
            }
            _ => return String::new(),
        };
        let likely = format!("{digits}{likely}");
        match likely.parse::<ByteSize>() {
            Ok(size) if allowed(size.as_u64()) => format!(
                "; {why}, and {self} is {} bytes; did you mean \"{likely}\" ({} bytes)?",
                self.bytes,
                size.as_u64()
            ),
            _ => String::new(),
        }
    }
}

impl From<ByteSize> for Size {
    fn from(size: ByteSize) -> Self {
        let text = size.display().iec().to_string().replace(".0 ", "").replace(' ', "");
        Size { bytes: size.as_u64(), written: Written::Text(text) }
    }
}

impl fmt::Display for Size {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written {
            Written::Number => write!(f, "{}", self.bytes),
            Written::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ByteSize(self.bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"256MiB\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                let size: ByteSize = text
                    .parse()
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                // A number beyond 64 bits becomes the largest there is.
                match size.as_u64() {
                    u64::MAX => Err(E::custom(format!("{text:?} is more than any machine has"))),
                    bytes => Ok(Size { bytes, written: Written::Text(text.to_owned()) }),
                }
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                let bytes = u64::try_from(bytes)
                    .map_err(|_| E::custom(format!("a size cannot be negative, as {bytes} is")))?;
                Ok(Size { bytes, written: Written::Number })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        size: Size,
    }

    fn read(value: &str) -> Result<Size, String> {
        let file = crate::toml_file::parse::<File>(&format!("size = {value}"));
        file.map(|file| file.size).map_err(|error| error.message)
    }

    #[test]
    fn a_size_is_shown_as_it_was_written() {
        for (value, bytes) in [
            ("256", 256),
            ("\"100M\"", 100_000_000),
            ("\"1.5 GiB\"", 3 << 29),
            ("\"64kb\"", 64_000),
            ("1_000", 1000),
        ] {
            let size = read(value).unwrap();
            assert_eq!(size.bytes(), bytes, "{value}");
            assert_eq!(size.to_string(), value.replace('_', ""), "{value}");
        }
    }

    #[test]
    fn the_likely_meaning_is_told() {
        let pages = |bytes: u64| bytes >= 1 << 20 && bytes.is_multiple_of(4096);
        for (value, likely) in [
            ("256", "\"256MiB\""),
            ("\"256\"", "\"256MiB\""),
            ("\"100M\"", "\"100MiB\""),
            ("\"100MB\"", "\"100MiB\""),
            ("\"1.5 g\"", "\"1.5GiB\""),
        ] {
            let hint = read(value).unwrap().hint(pages);
            assert!(hint.contains(&format!("did you mean {likely}")), "{value}: {hint}");
        }
        for unlikely in ["\"1KiB\"", "\"1K\"", "0"] {
            assert_eq!(read(unlikely).unwrap().hint(pages), "", "{unlikely}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_told_as_written() {
        for (value, part) in [
            ("\"much\"", "\"much\""),
            ("-5", "-5"),
            ("1.5", "1.5"),
            ("true", "true"),
            ("\"99999999999999TiB\"", "99999999999999TiB"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(part), "{value}: {error}");
        }
    }
}
