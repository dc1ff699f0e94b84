//! TOML as people write it: every error with line and column, an unknown key
//! with the nearest known one.

mod all;
mod size;

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserializer;
use serde::de::{self, DeserializeOwned};

pub use all::{Reading, parse_all};
pub use size::Size;

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column, in characters from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What is wrong in a TOML text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TomlError {
    /// Where; `None` if the text as a whole is meant.
    pub place: Option<Place>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl std::error::Error for TomlError {}

impl fmt::Display for TomlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads `text` as a `T`.
///
/// # Errors
/// [`TomlError`] at the place of the first mistake.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| place(text, span.start));
        TomlError { place, message: with_suggestion(error.message()) }
    })
}

/// The place of a byte.
pub(crate) fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
    Place { line: before.matches('\n').count() + 1, column }
}

/// Reads a text that `T` parses, for serde's `deserialize_with`; the key is there.
///
/// # Errors
/// The text of `T`'s error, as one of the deserializer.
pub fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err = String>> de::Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, _: i64) -> Result<T, E> {
            Err(E::custom(UNQUOTED))
        }

        fn visit_f64<E: de::Error>(self, _: f64) -> Result<T, E> {
            Err(E::custom(UNQUOTED))
        }
    }
    deserializer.deserialize_any(Text(PhantomData)).map(Some)
}

/// Not the number itself: 6.10 is 6.1 by now.
const UNQUOTED: &str = "it is a number, where a text is expected; put it in quotes";

/// Reads a number of which `range` is allowed, for serde's `deserialize_with`. One beyond it
/// is read if a `T` can hold it, for a check that names the key.
///
/// # Errors
/// Something else, with the range.
pub fn number_of<'de, D, T>(deserializer: D, range: RangeInclusive<u64>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    struct Number<T>(RangeInclusive<u64>, PhantomData<T>);
    impl<T: TryFrom<u64>> de::Visitor<'_> for Number<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number from {} to {}", self.0.start(), self.0.end())
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            let held = u64::try_from(number).ok().and_then(|number| T::try_from(number).ok());
            held.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let wrong = de::Unexpected::Str(text);
            match text.trim().parse::<i64>() {
                Ok(_) => Err(E::custom(format_args!(
                    "\"{text}\" is a text; write it without quotes, as {}",
                    &self as &dyn de::Expected
                ))),
                Err(_) => Err(E::invalid_type(wrong, &self)),
            }
        }
    }
    deserializer.deserialize_any(Number(range, PhantomData))
}

/// serde lists the known keys or values behind an unknown one; name the
/// nearest instead of leaving it to the reader's eyes.
fn with_suggestion(message: &str) -> String {
    let text = message.replace("unknown field", "unknown key").replace('\n', "; ");
    match nearest(message) {
        Some(key) => format!("{text}; did you mean `{key}`?"),
        None => text,
    }
}

/// The known key or value that is nearest to the unknown one of serde's message.
fn nearest(message: &str) -> Option<&str> {
    let unknown = message.split('`').nth(1).filter(|_| message.starts_with("unknown"))?;
    let known = message.split('`').skip(3).step_by(2);
    known
        .map(|key| (strsim::damerau_levenshtein(unknown, key), key))
        .min()
        .filter(|(distance, key)| *distance <= 1 + key.len() / 3)
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Vm {
        #[serde(rename = "memory")]
        _memory: u32,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(rename = "vm")]
        _vm: Vm,
    }

    #[test]
    fn an_unknown_key_has_its_place_and_the_nearest_known_one() {
        let error = parse::<File>("[vm]\n  memroy = 1\n").unwrap_err();
        assert_eq!(error.place, Some(Place { line: 2, column: 3 }));
        assert!(error.message.contains("unknown key `memroy`"), "{error}");
        assert!(error.message.ends_with("did you mean `memory`?"), "{error}");
    }

    #[test]
    fn a_key_like_no_other_gets_no_suggestion() {
        let error = parse::<File>("[vm]\nxyzzy = 1\n").unwrap_err();
        assert!(!error.message.contains("did you mean"), "{error}");
    }

    #[derive(Debug, Deserialize)]
    struct Count {
        #[serde(deserialize_with = "count")]
        vcpus: u32,
    }

    fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        number_of(deserializer, 1..=255)
    }

    #[test]
    fn a_number_in_quotes_or_out_of_range_is_told_with_its_range() {
        let read = |text: &str| parse::<Count>(&format!("vcpus = {text}"));
        assert_eq!(read("300").unwrap().vcpus, 300, "another check names the key");
        for (text, part) in [
            ("\"2\"", "\"2\" is a text; write it without quotes, as a number from 1 to 255"),
            ("-1", "integer `-1`, expected a number from 1 to 255"),
            ("4294967296", "integer `4294967296`, expected a number from 1 to 255"),
            ("\"two\"", "string \"two\", expected a number from 1 to 255"),
            ("1.5", "expected a number from 1 to 255"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[derive(Debug, Deserialize)]
    struct Kernel {
        #[serde(default, deserialize_with = "from_text")]
        kernel: Option<wasmsr_interface::KernelVersion>,
    }

    #[test]
    fn a_text_without_its_quotes_is_told() {
        let read = |text: &str| parse::<Kernel>(text);
        let file = read("kernel = \"6.12\"").unwrap();
        assert_eq!(file.kernel.map(|kernel| kernel.minor), Some(12));
        for (text, part) in [
            ("kernel = 6.10", "put it in quotes"),
            ("kernel = 6", "put it in quotes"),
            ("kernel = true", "boolean `true`, expected a text"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }
}
