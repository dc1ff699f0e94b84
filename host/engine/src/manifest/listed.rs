//! Claims whose MSRs the profile lists, for a plugin that answers the MSRs that its
//! operator names.

use serde::Deserialize;
use serde_json::Value;
use wasmsr_interface::{Direction, Directions, MsrRange};

use super::claim::{Intercept, MsrClaim, Scope};
use crate::toml_file::Place;

/// `[[msr]]` with `config`: the MSRs are in a list of the configuration, each
/// entry a range or a table that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedClaim {
    /// The key of the list.
    pub key: String,
    /// The directions, of which an entry may have fewer.
    pub access: Directions,
    /// Where the state is.
    pub scope: Scope,
    /// Whether the accesses exit at the start of a boot.
    pub intercept: Intercept,
}

/// An entry that is not a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .what.said(&.key, .place))]
pub struct ListedError {
    /// Where the profile has it, if that is known.
    place: Option<Place>,
    key: String,
    what: What,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Entry(String),
    /// It meets another entry of the list, or the manifest.
    Overlap {
        list: String,
        earlier: MsrRange,
        later: MsrRange,
    },
}

impl What {
    fn said(&self, key: &str, place: &Option<Place>) -> String {
        match (self, place) {
            (What::Entry(problem), None) => format!("config key `{key}`: {problem}"),
            (What::Entry(problem), Some(place)) => {
                format!("{place}: config key `{key}`: {problem}")
            }
            (What::Overlap { list, earlier, later }, place) => {
                let place = place.map_or(String::new(), |place| format!(", {place}"));
                format!(
                    "the ranges {earlier} and {later} overlap; write each MSR and direction once, \
                     and take {later} out of `config.{list}` (`{key}`{place})"
                )
            }
        }
    }
}

impl ListedError {
    /// The entry, or the part of it, that is wrong: `msrs[0].range`.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The error with its place in the profile.
    pub(crate) fn at(self, place: Option<Place>) -> Self {
        ListedError { place, ..self }
    }

    /// Two entries, or an entry and the manifest, that claim the same accesses.
    pub(super) fn overlap(key: String, list: &str, earlier: MsrRange, later: MsrRange) -> Self {
        let what = What::Overlap { list: list.to_owned(), earlier, later };
        ListedError { place: None, key, what }
    }
}

/// A claim with the entry of the configuration that makes it.
#[derive(Debug, Clone)]
pub(crate) struct ListedEntry {
    /// The key of the list.
    pub(crate) list: String,
    /// The entry in it, from 0.
    pub(crate) number: usize,
    pub(crate) claim: MsrClaim,
}

impl ListedEntry {
    /// The entry's own key: `msrs[0]`.
    pub(crate) fn key(&self) -> String {
        format!("{}[{}]", self.list, self.number)
    }
}

impl ListedClaim {
    /// The claims that a configuration, JSON text, lists.
    pub(crate) fn read(&self, config: &str) -> Result<Vec<ListedEntry>, ListedError> {
        let at = |key: String, problem: String| {
            let what = What::Entry(problem);
            ListedError { place: None, key, what }
        };
        let config: Value = serde_json::from_str(config)
            .map_err(|error| at(self.key.clone(), error.to_string()))?;
        let entries = match config.get(&self.key) {
            // The plugin decides whether it needs any.
            None => return Ok(Vec::new()),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                let wanted = "expected a list of MSRs, such as [\"0x10a\"]".to_owned();
                return Err(at(self.key.clone(), wanted));
            }
        };
        let mut claims = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let key = |part: &str| format!("{}[{place}]{part}", self.key);
            let range = match entry {
                Value::Object(table) => table.get("range"),
                range => Some(range),
            };
            let range = range.ok_or_else(|| {
                at(key(""), "it has no `range`, the MSR or MSRs that it is about".to_owned())
            })?;
            let range = MsrRange::deserialize(range)
                .map_err(|error| at(key(".range"), error.to_string()))?;
            let access = match entry.get("access") {
                None => Some(self.access),
                Some(access) => Access::deserialize(access)
                    .map_err(|error| at(key(".access"), error.to_string()))?
                    .directions(),
            };
            let Some(access) = access else { continue };
            let beyond = [Direction::Read, Direction::Write]
                .into_iter()
                .find(|&direction| access.contains(direction) && !self.access.contains(direction));
            if let Some(direction) = beyond {
                let problem = format!("the plugin does not answer {direction}s");
                return Err(at(key(".access"), problem));
            }
            let (scope, intercept) = (self.scope, self.intercept);
            let claim = MsrClaim { range, access, scope, intercept };
            claims.push(ListedEntry { list: self.key.clone(), number: place, claim });
        }
        Ok(claims)
    }
}

/// What of an entry exits.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Access {
    R,
    W,
    Rw,
    /// Nothing: the entry is for the plugin alone.
    None,
}

impl Access {
    fn directions(&self) -> Option<Directions> {
        match self {
            Access::R => Some(Directions::Read),
            Access::W => Some(Directions::Write),
            Access::Rw => Some(Directions::ReadWrite),
            Access::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(access: Directions) -> ListedClaim {
        let (scope, intercept) = (Scope::Vm, Intercept::On);
        ListedClaim { key: "msrs".to_owned(), access, scope, intercept }
    }

    #[test]
    fn entries_are_ranges_or_tables() {
        let config = r#"{"other": 1, "msrs": [16, "0x10a-0x10b",
            {"range": "0x20", "access": "w", "value": 3}, {"range": 5, "access": "none"}]}"#;
        let claims = claim(Directions::ReadWrite).read(config).unwrap();
        let claims: Vec<_> = claims
            .iter()
            .map(|ListedEntry { claim: c, .. }| (c.range.to_string(), c.access, c.scope))
            .collect();
        assert_eq!(
            claims,
            [
                ("0x10".to_owned(), Directions::ReadWrite, Scope::Vm),
                ("0x10a-0x10b".to_owned(), Directions::ReadWrite, Scope::Vm),
                ("0x20".to_owned(), Directions::Write, Scope::Vm),
            ]
        );
    }

    #[test]
    fn without_the_key_there_are_none() {
        assert!(claim(Directions::Read).read("{}").unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named_by_key() {
        for (config, key, part) in [
            (r#"{"msrs": 5}"#, "`msrs`", "a list"),
            (r#"{"msrs": [1, {}]}"#, "`msrs[1]`", "no `range`"),
            (r#"{"msrs": ["ten"]}"#, "`msrs[0].range`", "`ten`"),
            (r#"{"msrs": [-1]}"#, "`msrs[0].range`", "-1"),
            (r#"{"msrs": [4294967296]}"#, "`msrs[0].range`", "4294967296"),
            (r#"{"msrs": [{"range": 1, "access": "x"}]}"#, "`msrs[0].access`", "`x`"),
            (r#"{"msrs": [{"range": 1, "access": "rw"}]}"#, "`msrs[0].access`", "write"),
        ] {
            let error = claim(Directions::Read).read(config).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(part), "{config}: {error}");
        }
    }
}
