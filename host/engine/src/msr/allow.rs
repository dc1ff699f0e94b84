//! `[msr] default` and `allow` of a profile: which accesses that no plugin claims stay
//! with KVM.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IntoDeserializer, MapAccess};
use serde::{Deserialize, Deserializer};
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::{Allowed, Directions, MsrRange};

/// What becomes of the accesses that no plugin claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum MsrDefault {
    /// KVM answers them as far as it can, and the rest is unhandled
    #[default]
    Allow,
    /// all but those in `allow` leave the kernel and are unhandled
    Deny,
}

/// One entry of `allow`: MSRs that stay with KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(JsonSchema), schemars(untagged))]
pub enum AllowEntry {
    /// A range alone, in both directions.
    Range(#[cfg_attr(test, schemars(with = "kind::Range"))] MsrRange),
    /// A table.
    Table(AllowTable),
}

/// An entry with its directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AllowTable {
    /// the MSRs
    #[cfg_attr(test, schemars(with = "kind::Range"))]
    pub range: MsrRange,
    /// the directions that stay with KVM
    #[serde(default = "both")]
    #[cfg_attr(test, schemars(with = "kind::Access"))]
    pub access: Directions,
}

fn both() -> Directions {
    Directions::ReadWrite
}

impl From<AllowEntry> for Allowed {
    fn from(entry: AllowEntry) -> Self {
        match entry {
            AllowEntry::Range(range) => Allowed { range, directions: Directions::ReadWrite },
            AllowEntry::Table(table) => Allowed { range: table.range, directions: table.access },
        }
    }
}

impl<'de> Deserialize<'de> for AllowEntry {
    // By hand: of an untagged enumeration serde says no more than that nothing matches.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = AllowEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an MSR such as \"0x10a\", a range such as \"0x40000000-0x400000ff\", or a \
                     table with `range` and `access`",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AllowEntry, E> {
                MsrRange::deserialize(text.into_deserializer()).map(AllowEntry::Range)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<AllowEntry, E> {
                MsrRange::deserialize(number.into_deserializer()).map(AllowEntry::Range)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AllowEntry, E> {
                MsrRange::deserialize(number.into_deserializer()).map(AllowEntry::Range)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<AllowEntry, A::Error> {
                AllowTable::deserialize(MapAccessDeserializer::new(map)).map(AllowEntry::Table)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
