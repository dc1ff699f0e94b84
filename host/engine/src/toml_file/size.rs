//! A size as a profile writes it, with what was written, for errors about it.

use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes, or a text with a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    bytes: u64,
    /// The text; `None` for a plain number.
    text: Option<String>,
}

impl Size {
    /// What `text` says, such as `128MiB`, for the defaults of profiles.
    pub fn of(size: ByteSize, text: &str) -> Self {
        Size { bytes: size.as_u64(), text: Some(text.to_owned()) }
    }

    /// How many bytes it is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// That the size does not fit, with what was probably meant if that does: a plain
    /// number counts bytes, and units without `i` are powers of ten.
    pub fn refused(&self, limits: &str, fits: impl Fn(u64) -> bool) -> String {
        let meant = self
            .meant()
            .filter(|meant| meant.parse::<ByteSize>().is_ok_and(|size| fits(size.as_u64())))
            .map(|meant| format!("; did you mean \"{meant}\"?"))
            .unwrap_or_default();
        let is = match &self.text {
            Some(_) => format!("is {} bytes", self.bytes),
            None => "counts bytes".to_owned(),
        };
        format!("{self} {is} and must be {limits}{meant}")
    }

    fn meant(&self) -> Option<String> {
        // More than this is a number of bytes that does not fit, not one of MiB.
        const MOST_MIB: u64 = 1 << 20;
        let plain = || (self.bytes < MOST_MIB).then(|| format!("{}MiB", self.bytes));
        let Some(text) = &self.text else { return plain() };
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = text.get(number.len()..)?.trim().to_ascii_uppercase();
        match unit.as_str() {
            "" | "B" => plain(),
            "K" | "KB" | "M" | "MB" | "G" | "GB" | "T" | "TB" => {
                Some(format!("{number}{}iB", unit.chars().next()?))
            }
            _ => None,
        }
    }
}

/// As TOML has it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "\"{text}\""),
            None => write!(f, "{}", self.bytes),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.text {
            Some(text) => serializer.serialize_str(text),
            None => serializer.serialize_u64(self.bytes),
        }
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
                match text.parse::<ByteSize>() {
                    // Larger ones end there.
                    Ok(size) if size.as_u64() == u64::MAX => Err(E::custom(format_args!(
                        "\"{text}\" is more bytes than a number of 64 bits can say; write a size \
                         such as \"256MiB\""
                    ))),
                    Ok(size) => Ok(Size::of(size, text)),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                let size = u64::try_from(bytes).map(|bytes| Size { bytes, text: None });
                size.map_err(|_| E::custom(format_args!("{bytes}: a size cannot be negative")))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        memory: Size,
    }

    #[track_caller]
    fn refused(written: &str) -> String {
        let file: File = toml::from_str(&format!("memory = {written}")).unwrap();
        let fits = |bytes: u64| bytes >= 1 << 20 && bytes.is_multiple_of(4096);
        file.memory.refused("at least 1MiB and a multiple of 4KiB", fits)
    }

    #[test]
    fn what_has_more_than_64_bits_is_refused_as_it_is_written() {
        for written in ["99999999999999999999GiB", "16777216TiB"] {
            let error = toml::from_str::<File>(&format!("memory = \"{written}\"")).unwrap_err();
            let error = error.message();
            assert!(error.contains(written) && error.contains("64 bits"), "{error}");
            assert!(!error.contains("18446744073709551615"), "{error}");
        }
    }

    #[test]
    fn what_was_written_is_said_with_what_was_meant() {
        let limits = "and must be at least 1MiB and a multiple of 4KiB";
        for (written, expected) in [
            ("\"100M\"", format!("\"100M\" is 100000000 bytes {limits}; did you mean \"100MiB\"?")),
            (
                "\"1.5 gb\"",
                format!("\"1.5 gb\" is 1500000000 bytes {limits}; did you mean \"1.5GiB\"?"),
            ),
            ("256", format!("256 counts bytes {limits}; did you mean \"256MiB\"?")),
            ("\"256\"", format!("\"256\" is 256 bytes {limits}; did you mean \"256MiB\"?")),
            ("\"1KiB\"", format!("\"1KiB\" is 1024 bytes {limits}")),
            ("\"1K\"", format!("\"1K\" is 1000 bytes {limits}")),
            ("0", format!("0 counts bytes {limits}")),
            ("100000001", format!("100000001 counts bytes {limits}")),
        ] {
            assert_eq!(refused(written), expected);
        }
    }
}
