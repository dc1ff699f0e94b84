//! Where a profile lists the MSRs of a claim, for errors about them.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use wasmsr_interface::{MsrIndex, MsrRange};

use super::Manifest;

/// The lists of MSRs in a plugin's configuration.
pub(crate) struct Lists<'a> {
    keys: Vec<(&'a str, Vec<Value>)>,
}

impl<'a> Lists<'a> {
    /// Those that the manifest makes claims of, in a configuration, JSON text.
    pub(crate) fn of(manifest: &'a Manifest, config: &str) -> Self {
        let config: Value = match manifest.listed.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(config).unwrap_or_default(),
        };
        let entries = |key: &str| config.get(key).and_then(Value::as_array).cloned();
        let keys = manifest.listed.iter();
        let keys = keys.filter_map(|listed| Some((listed.key.as_str(), entries(&listed.key)?)));
        Lists { keys: keys.collect() }
    }

    /// What an error calls the list with an entry that claims from `range` on; `None` if
    /// the manifest itself has the claim.
    pub(crate) fn place_of(&self, range: MsrRange) -> Option<Arc<str>> {
        let claims = |entry: &Value| begins(entry, range.first());
        let list = self.keys.iter().find(|(_, entries)| entries.iter().any(claims));
        list.map(|(key, _)| format!("`config.{key}` in the profile").into())
    }
}

/// Whether an entry makes a claim that begins at `index`.
fn begins(entry: &Value, index: MsrIndex) -> bool {
    let range = match entry {
        Value::Object(table) => table.get("range"),
        range => Some(range),
    };
    let range = range.and_then(|range| MsrRange::deserialize(range).ok());
    let Some(first) = range.map(|range| range.first().0) else { return false };
    let number = |key: &str| entry.get(key).and_then(Value::as_u64).unwrap_or(0);
    let distance = index.0.checked_sub(first).map(u64::from);
    distance.is_some_and(|distance| {
        let (count, stride) = (number("count"), number("stride"));
        let is_counted = stride != 0 && distance % stride == 0 && distance / stride < count;
        distance == 0 || is_counted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_a_list_are_told_from_those_of_the_manifest() {
        let manifest = Manifest::parse(
            b"[plugin]\nname = \"p\"\nversion = \"1.0.0\"\nabi = 1\n\
              [[msr]]\nrange = \"0x10\"\n[[msr]]\nconfig = \"msrs\"\n",
        );
        let manifest = manifest.unwrap();
        let config = r#"{"msrs": ["0x20-0x2f", {"range": 48, "count": 3, "stride": 4}, 7, {}]}"#;
        let lists = Lists::of(&manifest, config);
        let is_listed = |text: &str| lists.place_of(text.parse().unwrap()).is_some();
        for listed in ["0x20-0x2f", "0x30", "0x34", "0x38", "7"] {
            assert!(is_listed(listed), "{listed}");
        }
        for own in ["0x10", "0x31", "0x3c"] {
            assert!(!is_listed(own), "{own}");
        }
        let place = lists.place_of("7".parse().unwrap());
        assert_eq!(place.as_deref(), Some("`config.msrs` in the profile"));
    }
}
