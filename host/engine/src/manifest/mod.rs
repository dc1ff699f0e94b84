//! A plugin's manifest: what it answers and what it asks for.

mod capability;
mod claim;
mod conditional;
mod cpuid;
mod cpuid_merge;
mod error;
mod listed;
mod name;
mod overlap;
mod places;
mod tables;

#[cfg(test)]
pub(crate) use capability::CAPABILITIES;
pub(crate) use capability::Held;
pub use capability::{Capability, Grant, ParseCapabilityError};
pub use claim::{Intercept, MsrClaim, Scope};
pub use conditional::Conditional;
pub use cpuid::{CpuidLeaf, RegisterSpec};
pub(crate) use cpuid_merge::{Asked as AskedCpuid, Bits, REGISTERS, merge as merge_cpuid};
pub use cpuid_merge::{CpuidConflict, CpuidRefused, CpuidSource, MAX_CPUID_LEAVES};
pub use error::ManifestError;
pub(crate) use listed::ListedEntry;
pub use listed::{ListedClaim, ListedError};
pub(crate) use name::{NAME_RULE, is_name};
use overlap::Overlap;
pub(crate) use places::Spot;
pub use tables::{ABI_VERSION, About, MANIFEST_SECTION, Needs, Unhandled, UnhandledReason};
use tables::{File, MsrTable, WhenTable};
use wasmsr_interface::Direction;

use crate::toml_file::{self, Place};

/// The manifest, read and validated.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// `[plugin]`
    pub plugin: About,
    /// `[[msr]]` with a range: the claims. In a loaded plugin, also those that
    /// its profile lists.
    pub msr: Vec<MsrClaim>,
    /// `[[msr]]` with a key of the configuration, where the profile lists the
    /// MSRs.
    pub listed: Vec<ListedClaim>,
    /// `[unhandled]`: the accesses that no other plugin takes.
    pub unhandled: Unhandled,
    /// `[needs]`
    pub needs: Needs,
    /// `[[cpuid]]`. In a loaded plugin, also those of its configuration.
    pub cpuid: Vec<CpuidLeaf>,
    /// `[[when]]`: claims and CPUID changes of some configurations.
    pub when: Vec<Conditional>,
}

impl Manifest {
    /// Reads and validates the bytes of the custom section.
    ///
    /// # Errors
    /// [`ManifestError`] for the first mistake found, with its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::parse_all(bytes)
            .map_err(|wrong| wrong.into_iter().next().unwrap_or(ManifestError::Idle))
    }

    /// As [`parse`](Self::parse), with every mistake.
    ///
    /// # Errors
    /// At least one [`ManifestError`], each with its place.
    pub fn parse_all(bytes: &[u8]) -> Result<Self, Vec<ManifestError>> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let place = toml_file::place(&String::from_utf8_lossy(good), good.len());
            vec![ManifestError::Utf8.at(Some(place))]
        })?;
        let toml_file::Reading { value, mistakes, touched, .. } =
            toml_file::parse_all::<File>(text);
        let mut wrong: Vec<ManifestError> = mistakes.into_iter().map(ManifestError::from).collect();
        let Some(file) = value else { return Err(wrong) };
        // What is missing in a table may be what was wrong in it.
        let found = file.mistakes().into_iter().filter(|(mistake, spot)| {
            let tables: &[&str] = match (mistake, spot) {
                (ManifestError::Idle, _) => &["msr", "unhandled"],
                (_, Spot::Plugin | Spot::Name | Spot::Abi) => &["plugin"],
                (_, Spot::Cpuid(..)) => &["cpuid"],
                _ => &["msr", "needs"],
            };
            !tables.iter().any(|table| touched.contains(*table))
        });
        let found = found.take(MOST_MISTAKES);
        wrong.extend(found.map(|(mistake, spot)| mistake.at(places::of(text, spot))));
        if wrong.is_empty() { Ok(file.into()) } else { Err(wrong) }
    }

    /// Where the text that it was read from has one of the claims in
    /// [`Manifest::msr`], by its number from 0.
    pub fn place_of_claim(text: &str, number: usize) -> Option<Place> {
        places::of_claim(text, number)
    }

    /// Where the text that it was read from has a part.
    pub(crate) fn place_of(text: &str, spot: Spot) -> Option<Place> {
        places::of(text, spot)
    }

    /// Whether the plugin may be asked for accesses in this direction.
    pub fn answers(&self, direction: Direction) -> bool {
        let unhandled = !self.unhandled.reasons.is_empty();
        unhandled
            || self.msr.iter().any(|claim| claim.access.contains(direction))
            || self.listed.iter().any(|claim| claim.access.contains(direction))
            || self.when.iter().flat_map(|when| &when.msr).any(|c| c.access.contains(direction))
    }

    /// The manifest with what a configuration, JSON text, adds: the claims that it lists,
    /// and what `[[when]]` has for it.
    ///
    /// # Errors
    /// [`ManifestError`] for an entry that is not a claim, by its key, or for ranges
    /// that overlap.
    pub fn with_listed_claims(mut self, config: &str) -> Result<Self, ManifestError> {
        let own = self.msr.len();
        let mut listed = Vec::new();
        for claim in &mut self.listed {
            let (entries, scopes) = claim.read(config)?;
            listed.extend(entries);
            if !scopes.is_empty() {
                claim.instances = scopes;
            }
        }
        self.msr.extend(listed.iter().map(|entry| entry.claim));
        // What is not JSON has no keys.
        let config = serde_json::from_str(config).unwrap_or_default();
        for when in self.when.iter().filter(|when| when.holds(&config)) {
            self.msr.extend(&when.msr);
            self.cpuid.extend_from_slice(&when.cpuid);
        }
        let claims = self.msr.iter().map(|claim| (claim.range, claim.access));
        let Some(Overlap { earlier, later, place }) = Overlap::first(claims) else {
            return Ok(self);
        };
        Err(match place.checked_sub(own).and_then(|number| listed.get(number)) {
            Some(entry) => ListedError::overlap(entry.key(), &entry.list, earlier, later).into(),
            None => ManifestError::Overlap(earlier, later),
        })
    }

    /// The claims that a configuration, JSON text, lists.
    pub(crate) fn listed_entries(&self, config: &str) -> Result<Vec<ListedEntry>, ListedError> {
        let mut entries = Vec::new();
        for claim in &self.listed {
            entries.extend(claim.read(config)?.0);
        }
        Ok(entries)
    }
}

/// What contradicts itself in a change of CPUID, with the register's name.
fn mistakes_of_leaf(leaf: &CpuidLeaf) -> impl Iterator<Item = (ManifestError, &'static str)> {
    leaf.registers().into_iter().filter_map(|(register, spec)| {
        let message = spec.change().err()?;
        let CpuidLeaf { leaf, subleaf, .. } = *leaf;
        Some((ManifestError::Cpuid { leaf, subleaf, register, message }, register))
    })
}

/// Most mistakes of values that are told of one manifest.
const MOST_MISTAKES: usize = 64;

impl File {
    /// What is wrong that the types cannot say, each with its place.
    fn mistakes(&self) -> Vec<(ManifestError, Spot)> {
        let mut wrong = Vec::new();
        let name = &self.plugin.name;
        if !is_name(name) {
            wrong.push((ManifestError::Name(name.clone()), Spot::Name));
        }
        if self.plugin.abi != ABI_VERSION {
            wrong.push((ManifestError::Abi(self.plugin.abi), Spot::Abi));
        }
        let claims = self.when.iter().map(|when| when.msr.len()).sum::<usize>() + self.msr.len();
        if claims == 0 && self.unhandled.reasons.is_empty() {
            wrong.push((ManifestError::Idle, Spot::Plugin));
        }
        let switches = self.needs.all().any(|asked| *asked == Capability::Intercept);
        for (number, table) in self.msr.iter().enumerate() {
            let which = match (&table.range, &table.config) {
                (Some(range), None) => range.to_string(),
                (None, Some(key)) => format!("config = {key:?}"),
                _ => {
                    wrong.push((ManifestError::RangeOrConfig, Spot::Msr(number)));
                    continue;
                }
            };
            if table.intercept == Intercept::Off && !switches {
                wrong.push((ManifestError::Reserved(which), Spot::Intercept(number)));
            }
        }
        wrong.extend(self.overlap());
        for (number, leaf) in self.cpuid.iter().enumerate() {
            let mistakes = mistakes_of_leaf(leaf);
            wrong.extend(
                mistakes.map(|(mistake, register)| (mistake, Spot::Cpuid(number, register))),
            );
        }
        for (number, when) in self.when.iter().enumerate() {
            let mistakes = self.mistakes_of(when, switches).into_iter();
            wrong.extend(mistakes.map(|mistake| (mistake, Spot::When(number))));
        }
        wrong
    }

    fn mistakes_of(&self, when: &WhenTable, switches: bool) -> Vec<ManifestError> {
        let mut wrong = Vec::new();
        for table in &when.msr {
            match (table.range, &table.config) {
                (Some(range), None) if table.intercept == Intercept::Off && !switches => {
                    wrong.push(ManifestError::Reserved(range.to_string()));
                }
                (Some(_), None) => {}
                _ => wrong.push(ManifestError::RangeOnly),
            }
        }
        let tables = self.msr.iter().chain(&when.msr);
        let claims = tables.filter_map(|table| Some((table.range?, table.access)));
        if let Some(Overlap { earlier, later, .. }) = Overlap::first(claims) {
            wrong.push(ManifestError::Overlap(earlier, later));
        }
        let of_leaves = when.cpuid.iter().flat_map(mistakes_of_leaf);
        wrong.extend(of_leaves.map(|(mistake, _)| mistake));
        wrong
    }

    fn overlap(&self) -> Option<(ManifestError, Spot)> {
        let tables = self.msr.iter().enumerate();
        let (numbers, claims): (Vec<_>, Vec<_>) = tables
            .filter_map(|(number, table)| Some((number, (table.range?, table.access))))
            .unzip();
        let Overlap { earlier, later, place } = Overlap::first(claims.into_iter())?;
        let number = numbers.get(place).copied().unwrap_or_default();
        Some((ManifestError::Overlap(earlier, later), Spot::Range(number)))
    }
}

impl From<File> for Manifest {
    fn from(file: File) -> Self {
        let File { plugin, msr: tables, unhandled, needs, cpuid, when } = file;
        let (mut msr, mut listed) = (Vec::new(), Vec::new());
        for MsrTable { range, config, access, scope, intercept } in tables {
            msr.extend(range.map(|range| MsrClaim { range, access, scope, intercept }));
            listed.extend(config.map(|key| ListedClaim::new(key, access, scope, intercept)));
        }
        let when = when.into_iter().map(Conditional::from).collect();
        Manifest { plugin, msr, listed, unhandled, needs, cpuid, when }
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_book::reference::Reference;

    use super::*;

    #[test]
    fn the_reference_is_current() {
        let manifest = Reference::<File>::of("docs/manifest.md");
        manifest.table::<About>("plugin");
        manifest.table::<MsrTable>("msr");
        manifest.table::<Unhandled>("unhandled");
        manifest.table::<Needs>("needs");
        manifest.table::<CpuidLeaf>("cpuid");
        manifest.table::<RegisterSpec>("register");
        manifest.table::<WhenTable>("when");
        manifest.schema("docs/schemas/manifest.json");
    }

    const HEAD: &str = "[plugin]\nname = \"p\"\nversion = \"1.0.0\"\nabi = 1\n";

    #[track_caller]
    fn refused(rest: &str, part: &str) {
        let error = Manifest::parse(format!("{HEAD}{rest}").as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn reads_every_key() {
        let text = format!(
            "{HEAD}description = \"d\"\n\
             [[msr]]\nrange = \"0x10a\"\naccess = \"r\"\nscope = \"vm\"\n\
             [[msr]]\nrange = \"0x10a\"\naccess = \"w\"\n\
             [unhandled]\nreasons = [\"unknown\", \"invalid\"]\n\
             [needs]\ncapabilities = [\"guest-memory\", \"host-msr:0x606-0x611\"]\n\
             optional = [\"host-msr\", \"host-file:energy\"]\n\
             [[cpuid]]\nleaf = 0x7\nsubleaf = 0x0\nedx.set = [29]\n"
        );
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.msr[0].scope, Scope::Vm);
        assert_eq!(manifest.msr[1].scope, Scope::Vcpu);
        assert_eq!(manifest.unhandled.reasons.len(), 2);
        assert_eq!(manifest.needs.capabilities[1].to_string(), "host-msr:0x606-0x611");
        assert_eq!(manifest.needs.all().count(), 4);
        assert_eq!(manifest.cpuid[0].edx.change().unwrap().set, 1 << 29);
    }

    #[test]
    fn mistakes_are_named() {
        refused("", "names no MSR");
        refused("[[msr]]\naccess = \"r\"\n", "either `range` or `config`");
        refused("[[msr]]\nrange = \"1\"\nconfig = \"msrs\"\n", "either `range` or `config`");
        refused("[[msr]]\nrange = \"0x10b-0x10a\"\n", "runs backwards");
        refused("[[msr]]\nrange = \"0x10a\"\nacess = \"r\"\n", "did you mean `access`?");
        refused("[[msr]]\nrange = \"0x10a\"\naccess = \"x\"\n", "unknown variant `x`");
        refused("[[msr]]\nrange = \"0-0x10\"\n[[msr]]\nrange = \"0x10\"\n", "overlap");
        let msr = "[[msr]]\nrange = \"1\"\n";
        refused(&format!("{msr}intercept = \"off\"\n"), "nothing could turn it on");
        let listed = "[[msr]]\nconfig = \"msrs\"\nintercept = \"off\"\n";
        refused(listed, "[[msr]] config = \"msrs\" says intercept = \"off\"");
        refused(&format!("{msr}[needs]\ncapabilities = [\"root\"]\n"), "unknown capability `root`");
        refused(&format!("{msr}[[cpuid]]\nleaf = 7\nedx.set = [32]\n"), "0 to 31");
        refused(&format!("{msr}[[cpuid]]\nleaf = 7\nedx.set = [3]\nedx.clear = [3]\n"), "bit 3");
    }

    const WHEN: &str = "[[msr]]\nrange = 1\n[[when]]\nconfig = { vendor = \"amd\", cppc = true }\n\
        msr = [{ range = 5, access = \"r\" }]\ncpuid = [{ leaf = 6, ecx.set = [0] }]\n";

    #[test]
    fn a_configuration_decides_what_holds() {
        let with = |config: &str| {
            let manifest = Manifest::parse(format!("{HEAD}{WHEN}").as_bytes()).unwrap();
            let manifest = manifest.with_listed_claims(config).unwrap();
            (manifest.msr.len(), manifest.cpuid.len())
        };
        assert_eq!(with(r#"{"vendor": "amd", "cppc": true, "more": 1}"#), (2, 1));
        for other in ["{}", r#"{"vendor": "amd"}"#, r#"{"vendor": "amd", "cppc": 1}"#] {
            assert_eq!(with(other), (1, 0), "{other}");
        }
    }

    #[test]
    fn mistakes_of_conditions_are_named() {
        refused(&WHEN.replace("range = 5", "range = 1"), "line 7, column 1: the ranges 0x1");
        refused(&WHEN.replace("range = 5", "config = \"a\""), "takes `range`");
        refused(&WHEN.replace("[0]", "[32]"), "0 to 31");
        refused(&WHEN.replace("cppc = true", "cppc = []"), "untagged");
        refused("[[when]]\nconfig = {}\ncpuid = []\n", "names no MSR");
    }

    #[test]
    fn a_version_in_short_is_shown_with_what_it_means() {
        for (version, parts) in [
            ("\"1\"", ["`1` is not", "did you mean \"1.0.0\"?"]),
            ("\"0.2\"", ["`0.2` is not", "did you mean \"0.2.0\"?"]),
            ("\"v1.2.3\"", ["`v1.2.3`", "did you mean \"1.2.3\"?"]),
            ("\"one\"", ["`one`", "such as \"1.0.0\""]),
            ("\"\"", ["``", "such as \"1.0.0\""]),
            ("1", ["integer `1`", "a version as text, such as \"1.0.0\""]),
            ("1.2", ["floating point `1.2`", "a version as text"]),
        ] {
            let text = HEAD.replace("\"1.0.0\"", version) + "[[msr]]\nrange = \"1\"\n";
            let error = Manifest::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 3, column 11: "), "{error}");
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn another_abi_is_refused() {
        let text = HEAD.replace("abi = 1", "abi = 2") + "[[msr]]\nrange = \"1\"\n";
        let error = Manifest::parse(text.as_bytes()).unwrap_err();
        let place = Place { line: 4, column: 7 };
        assert_eq!(error, ManifestError::At { place, mistake: Box::new(ManifestError::Abi(2)) });
    }

    #[test]
    fn every_mistake_has_its_place() {
        let at = |rest: &str, line: usize| {
            let error = Manifest::parse(format!("{HEAD}{rest}").as_bytes()).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("line {line}, column ")), "{text}");
        };
        at("", 1);
        at("[[msr]]\nrange = \"1\"\n\n[[msr]]\naccess = \"r\"\n", 8);
        at("[[msr]]\nrange = \"1-3\"\n[[msr]]\nrange = 5\n[[msr]]\nrange = \"2\"\n", 10);
        at("[[msr]]\nrange = \"1-3\"\naccess = \"r\"\n[[msr]]\nrange = 3\n", 9);
        at("[[msr]]\nrange = \"1\"\n[[msr]]\nintercept = \"off\"\nrange = \"2\"\n", 8);
        let inline = format!("msr = [\n{{ range = 1 }},\n{{ range = 1 }},\n]\n{HEAD}");
        let inline = Manifest::parse(inline.as_bytes()).unwrap_err();
        assert!(inline.to_string().starts_with("line 3, column 11: "), "{inline}");
        let cpuid = "[[cpuid]]\nleaf = 7\nedx.set = [1]\n[[cpuid]]\nleaf = 7\nsubleaf = 1\n";
        at(&format!("[[msr]]\nrange = 1\n{cpuid}ebx.set = [32]\n"), 13);
        let name = Manifest::parse(HEAD.replace("\"p\"", "\"P\"").as_bytes()).unwrap_err();
        assert!(name.to_string().starts_with("line 2, column 8: plugin name `P`"), "{name}");
        let msr = "[[msr]]\nrange = 1\n";
        // The second of two tables of one leaf, with and without the register in the first.
        let leaf = "[[cpuid]]\nleaf = 7\n";
        at(&format!("{msr}{leaf}edx.set = [1]\n{leaf}edx.set = [32]\n"), 12);
        at(&format!("{msr}{leaf}ecx.set = [1]\n{leaf}edx.set = [32]\n"), 12);
        at(&format!("{msr}{msr}"), 8);
        let fourth = "[[msr]]\nrange = \"0x30-0x40\"\n[[msr]]\nrange = \"0x10\"\n";
        at(&format!("{fourth}[[msr]]\nrange = \"0x20\"\n[[msr]]\nrange = \"0-0x10\"\n"), 12);
        at("[[msr]]\nconfig = \"a\"\n[[msr]]\nrange = 1\n[[msr]]\nrange = 1\n", 10);
        at("[[msr]]\nconfig = \"a\"\nintercept = \"off\"\n", 7);
        at(&format!("{msr}[needs]\ncapabilities = [\n  \"timer\",\n  \"root\",\n]\n"), 10);
        at(&format!("{msr}[unhandled]\nreasons = [\n  \"unknown\",\n  \"never\",\n]\n"), 10);
    }

    #[test]
    fn all_mistakes_are_told() {
        let text = "[plugin]\nname = \"P\"\nversion = \"1.0.0\"\nabi = 1\n\
                    [[msr]]\nrange = \"5-4\"\nacess = \"r\"\n[[msr]]\nrange = 3\n\
                    [[cpuid]]\nleaf = 7\nedx.set = [32]\n[[cpuid]]\nleaf = 7\nebx.set = [33]\n";
        let told: Vec<String> = Manifest::parse_all(text.as_bytes())
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        let parts = [
            "line 6, column 9: range `5-4` runs backwards",
            "line 7, column 1: unknown key `acess`",
            "line 2, column 8: plugin name `P`",
            "line 12, column 1: [[cpuid]] leaf 0x7",
            "line 15, column 1: [[cpuid]] leaf 0x7",
        ];
        assert_eq!(told.len(), parts.len(), "{told:#?}");
        for (told, part) in told.iter().zip(parts) {
            assert!(told.starts_with(part), "no `{part}` in: {told}");
        }
        let two = "[plugin]\nname = \"P\"\nversion = \"1.0.0\"\nabi = 2\n";
        assert_eq!(Manifest::parse_all(two.as_bytes()).unwrap_err().len(), 3);
    }

    #[test]
    fn texts_that_are_no_manifest_have_a_place_too() {
        for (bytes, place) in [
            (&b""[..], "line 1, column 1: "),
            (b"[plugin]\nname = \"p\"\nversion = \"\xff\"", "line 3, column 12: "),
            (b"plugin = 5", "line 1, column 10: "),
            (b"[[msr]]\nrange = 1\n", "line 1, column 1: "),
        ] {
            let error = Manifest::parse(bytes).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
