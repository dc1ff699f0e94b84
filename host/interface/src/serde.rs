//! MSRs and ranges as manifests, profiles and recordings write them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::index::MsrIndex;
use crate::range::{MsrRange, ParseRangeError};

impl Serialize for MsrIndex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MsrIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for MsrRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MsrRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = MsrRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an MSR such as \"0x10a\" or \"IA32_ARCH_CAPABILITIES\", or a range such as \
                     \"0x40000000-0x400000ff\"",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<MsrRange, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<MsrRange, E> {
                single(number)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<MsrRange, E> {
                single(number)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// One MSR, from a number of TOML's or of JSON's.
fn single<N, E>(number: N) -> Result<MsrRange, E>
where
    N: TryInto<u32> + Copy + fmt::Display,
    E: de::Error,
{
    let index = number.try_into().map(MsrIndex).map(MsrRange::from);
    index.map_err(|_| E::custom(ParseRangeError::Index(number.to_string())))
}
