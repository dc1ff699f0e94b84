//! One entry of the list of MSRs.

use alloc::string::String;
use core::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use wasmsr_sdk::MsrRange;

use crate::Then;

/// A plain range, or a table with one.
pub(crate) struct Entry(pub(crate) Table);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Table {
    pub(crate) range: MsrRange,
    /// Read by the host: the plugin gets these directions only.
    #[serde(default, rename = "access")]
    _access: Access,
    pub(crate) name: Option<String>,
    pub(crate) fault_after: Option<u64>,
    pub(crate) per: Option<u32>,
    pub(crate) then: Option<Then>,
}

#[derive(Default, Deserialize)]
enum Access {
    #[default]
    #[serde(rename = "w")]
    Write,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl Visitor {
            fn plain<'de, E: de::Error>(of: impl IntoDeserializer<'de, E>) -> Result<Entry, E> {
                let range = MsrRange::deserialize(of.into_deserializer())?;
                let (name, fault_after, per, then) = (None, None, None, None);
                let _access = Access::Write;
                Ok(Entry(Table { range, _access, name, fault_after, per, then }))
            }
        }

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an MSR, a range of them such as \"0x186-0x189\", or a table with `range`",
                )
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Entry, E> {
                Visitor::plain(number)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Entry, E> {
                Visitor::plain(number)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Entry, E> {
                Visitor::plain(text)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Entry)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
