//! Claims whose MSRs the profile lists, for a plugin that answers the MSRs that its
//! operator names.

use serde::Deserialize;
use serde_json::Value;
use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

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
    /// Where the state is, of entries that do not say it.
    pub scope: Scope,
    /// Whether the accesses exit at the start of a boot.
    pub intercept: Intercept,
    /// The scopes of its instances: that of each entry, or [`scope`](Self::scope)
    /// while there is none.
    pub(crate) instances: Vec<Scope>,
}

/// Most MSRs of one entry with `count`: each is a claim of its own.
const MOST_COUNTED: u32 = 1024;

/// An entry that is not a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .what.said(.key, *.place))]
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
    fn said(&self, key: &str, place: Option<Place>) -> String {
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
    /// The key of a manifest.
    pub(crate) fn new(key: String, access: Directions, scope: Scope, on: Intercept) -> Self {
        ListedClaim { key, access, scope, intercept: on, instances: vec![scope] }
    }

    /// The claims that a configuration, JSON text, lists, and the scopes of its entries.
    pub(crate) fn read(&self, config: &str) -> Result<(Vec<ListedEntry>, Vec<Scope>), ListedError> {
        let at = |key: String, problem: String| {
            let what = What::Entry(problem);
            ListedError { place: None, key, what }
        };
        let config: Value = serde_json::from_str(config)
            .map_err(|error| at(self.key.clone(), error.to_string()))?;
        let entries = match config.get(&self.key) {
            // The plugin decides whether it needs any.
            None => return Ok((Vec::new(), Vec::new())),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                let wanted = "expected a list of MSRs, such as [\"0x10a\"]".to_owned();
                return Err(at(self.key.clone(), wanted));
            }
        };
        let (mut claims, mut instances) = (Vec::new(), Vec::new());
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
            let scope = match entry.get("scope") {
                None => self.scope,
                Some(scope) => Scope::deserialize(scope)
                    .map_err(|error| at(key(".scope"), error.to_string()))?,
            };
            if !instances.contains(&scope) {
                instances.push(scope);
            }
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
            let ranges = ranges_of(range, entry.get("count"), entry.get("stride"))
                .map_err(|(part, problem)| at(key(part), problem))?;
            let intercept = self.intercept;
            claims.extend(ranges.into_iter().map(|range| {
                let claim = MsrClaim { range, access, scope, intercept };
                ListedEntry { list: self.key.clone(), number: place, claim }
            }));
        }
        Ok((claims, instances))
    }
}

/// The MSRs of an entry: its range, or `count` MSRs from it on, `stride` apart.
fn ranges_of(
    range: MsrRange,
    count: Option<&Value>,
    stride: Option<&Value>,
) -> Result<Vec<MsrRange>, (&'static str, String)> {
    let (count, stride) = match (count, stride) {
        (None, None) => return Ok(vec![range]),
        (Some(count), Some(stride)) => (count, stride),
        (Some(_), None) => return Err((".count", "it needs `stride` beside it".to_owned())),
        (None, Some(_)) => return Err((".stride", "it needs `count` beside it".to_owned())),
    };
    if range.first() != range.last() {
        return Err((".count", format!("it counts from one MSR on, and `range` is {range}")));
    }
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let count = number(count).filter(|count| (1..=MOST_COUNTED).contains(count));
    let count = count.ok_or_else(|| {
        (".count", format!("expected how many MSRs there are, from 1 to {MOST_COUNTED}"))
    })?;
    let stride = number(stride).filter(|&stride| stride != 0);
    let stride = stride.ok_or_else(|| {
        (".stride", "expected the distance from one MSR to the next, 1 or more".to_owned())
    })?;
    let first = range.first().0;
    let msr = |place: u32| first.checked_add(place.checked_mul(stride)?).map(MsrIndex);
    let msrs: Option<Vec<MsrRange>> = match stride {
        1 => {
            msr(count - 1).and_then(|last| MsrRange::new(range.first(), last)).map(|all| vec![all])
        }
        _ => (0..count).map(|place| msr(place).map(MsrRange::from)).collect(),
    };
    msrs.ok_or_else(|| (".count", "the last of these MSRs is beyond 0xffffffff".to_owned()))
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
        ListedClaim::new("msrs".to_owned(), access, Scope::Vm, Intercept::On)
    }

    #[test]
    fn entries_are_ranges_or_tables() {
        let config = r#"{"other": 1, "msrs": [16, "0x10a-0x10b",
            {"range": "0x20", "access": "w", "value": 3}, {"range": 5, "access": "none"}]}"#;
        let (claims, _) = claim(Directions::ReadWrite).read(config).unwrap();
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
        let claim = claim(Directions::Read);
        let (claims, scopes) = claim.read("{}").unwrap();
        assert!(claims.is_empty() && scopes.is_empty());
        assert_eq!(claim.instances, [Scope::Vm]);
    }

    #[test]
    fn an_entry_may_count_msrs_and_have_its_own_scope() {
        let config = r#"{"msrs": [
            {"range": "0x400", "count": 3, "stride": 4, "scope": "vcpu"},
            {"range": 5, "access": "none"}]}"#;
        let claim = claim(Directions::ReadWrite);
        let (claims, scopes) = claim.read(config).unwrap();
        let claims: Vec<_> =
            claims.iter().map(|entry| (entry.claim.range.to_string(), entry.claim.scope)).collect();
        assert_eq!(claims, ["0x400", "0x404", "0x408"].map(|msr| (msr.to_owned(), Scope::Vcpu)));
        assert_eq!(scopes, [Scope::Vcpu, Scope::Vm], "also of what does not exit");
        let in_a_row = r#"{"msrs": [{"range": "0x280", "count": 3, "stride": 1}]}"#;
        assert_eq!(claim.read(in_a_row).unwrap().0[0].claim.range.to_string(), "0x280-0x282");
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
            (r#"{"msrs": [{"range": 1, "scope": "core"}]}"#, "`msrs[0].scope`", "`core`"),
            (r#"{"msrs": [{"range": 1, "count": 2}]}"#, "`msrs[0].count`", "`stride`"),
            (r#"{"msrs": [{"range": 1, "stride": 2}]}"#, "`msrs[0].stride`", "`count`"),
            (r#"{"msrs": [{"range": 1, "count": 0, "stride": 2}]}"#, "`msrs[0].count`", "1024"),
            (r#"{"msrs": [{"range": 1, "count": 1025, "stride": 2}]}"#, "`msrs[0].count`", "1024"),
            (r#"{"msrs": [{"range": 1, "count": "2", "stride": 2}]}"#, "`msrs[0].count`", "1024"),
            (r#"{"msrs": [{"range": 1, "count": 2, "stride": 0}]}"#, "`msrs[0].stride`", "1 or"),
            (
                r#"{"msrs": [{"range": "1-2", "count": 2, "stride": 4}]}"#,
                "`msrs[0].count`",
                "0x1-0x2",
            ),
            (
                r#"{"msrs": [{"range": "0xfffffffe", "count": 3, "stride": 1}]}"#,
                "`msrs[0].count`",
                "beyond",
            ),
        ] {
            let error = claim(Directions::Read).read(config).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(part), "{config}: {error}");
        }
    }
}
