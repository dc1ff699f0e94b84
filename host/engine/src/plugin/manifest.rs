//! A plugin's manifest: what it answers and what it asks for.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::{Direction, Directions, MsrRange, Reason, RegisterChange};

use super::capability::Capability;
use super::listed::{ListedClaim, ListedError};
use super::overlap::Overlap;
use super::places::{self, Spot};
use crate::toml_file::{self, Place, TomlError};

/// Name of the Wasm custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "wasmsr.manifest";

/// The ABI version that this engine speaks.
pub const ABI_VERSION: u32 = 1;

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
    /// `[unhandled]`: the accesses nobody else took.
    pub unhandled: Unhandled,
    /// `[needs]`
    pub needs: Needs,
    /// `[[cpuid]]`
    pub cpuid: Vec<CpuidLeaf>,
}

// The doc comments of these tables are the manifest reference.

/// the manifest of a plugin for wasmsr: what it answers and what it asks for
#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
struct File {
    /// what it is
    plugin: About,
    /// the MSRs that it answers
    #[serde(default)]
    msr: Vec<MsrTable>,
    /// accesses that nobody claimed and that KVM would refuse
    #[serde(default)]
    unhandled: Unhandled,
    /// what it needs beyond answering
    #[serde(default)]
    needs: Needs,
    /// what the guest must see in CPUID
    #[serde(default)]
    cpuid: Vec<CpuidLeaf>,
}

/// `[[msr]]` as it is written: with `range` or with `config`.
#[derive(Deserialize)]
#[cfg_attr(
    test,
    derive(JsonSchema),
    schemars(extend("oneOf" = [{ "required": ["range"] }, { "required": ["config"] }]))
)]
#[serde(deny_unknown_fields)]
struct MsrTable {
    /// `"0x10a"`, `"0x40000000-0x400000ff"` with both ends included, or `0x10a`;
    /// this or `config`
    #[cfg_attr(test, schemars(with = "Option<kind::Range>"))]
    range: Option<MsrRange>,
    /// the key of the configuration where the profile lists the MSRs; this or
    /// `range`
    config: Option<String>,
    /// the directions that the plugin answers
    #[serde(default = "both")]
    #[cfg_attr(test, schemars(with = "kind::Access"))]
    access: Directions,
    /// whose state it is: `"vcpu"`, an instance for each vCPU, without a lock;
    /// or `"vm"`, one instance for the VM
    #[serde(default)]
    scope: Scope,
    /// `"on"`: the accesses exit from the start; `"off"`: they are KVM's until
    /// the plugin turns them on, with the capability `intercept`
    #[serde(default)]
    intercept: Intercept,
}

/// `[plugin]`
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct About {
    /// 1 to 64 lower-case letters, digits or `-`; once in a profile
    pub name: String,
    /// the plugin's own version, [semantic versioning](https://semver.org)
    #[cfg_attr(test, schemars(with = "String"))]
    pub version: semver::Version,
    /// the [ABI](abi.md) it is built for: `1`
    pub abi: u32,
    /// a line for people
    #[serde(default)]
    pub description: String,
}

/// A range that the plugin answers.
#[derive(Debug, Clone, Copy)]
pub struct MsrClaim {
    /// The MSRs.
    pub range: MsrRange,
    /// The directions; both if not said.
    pub access: Directions,
    /// Whose state it is.
    pub scope: Scope,
    /// Whether the accesses exit from the start, or are only reserved until
    /// the plugin turns them on.
    pub intercept: Intercept,
}

/// How a claim begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Intercept {
    /// The accesses exit.
    #[default]
    On,
    /// They are KVM's until the plugin's host call `intercept` turns them on.
    Off,
}

fn both() -> Directions {
    Directions::ReadWrite
}

/// Whose the state of an MSR is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// An instance for each vCPU, without a lock.
    #[default]
    Vcpu,
    /// One instance for the VM.
    Vm,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Vcpu => "vcpu",
            Scope::Vm => "vm",
        })
    }
}

/// `[unhandled]`
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unhandled {
    /// which accesses are offered; `"unknown"`: KVM does not know the MSR;
    /// `"invalid"`: KVM knows it and refuses the access
    pub reasons: Vec<UnhandledReason>,
    /// whose instance they are put to; by default the one that the plugin has
    /// anyway, the VM's if all its ranges have `scope = "vm"`, else the vCPU's
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("x-default" = "that of the ranges")))]
    pub scope: Option<Scope>,
}

/// A reason for which KVM itself would refuse an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum UnhandledReason {
    /// KVM does not know the MSR.
    Unknown,
    /// KVM knows it and refuses the access.
    Invalid,
}

impl From<UnhandledReason> for Reason {
    fn from(reason: UnhandledReason) -> Self {
        match reason {
            UnhandledReason::Unknown => Reason::Unknown,
            UnhandledReason::Invalid => Reason::Invalid,
        }
    }
}

/// `[needs]`
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// what the plugin needs beyond answering; the names are in the
    /// [profile reference](profile.md#capabilities)
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub capabilities: Vec<Capability>,
    /// what it can do without: where it is not granted, the host calls behind
    /// it refuse
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub optional: Vec<Capability>,
}

impl Needs {
    /// Everything that is asked, needed or not.
    pub fn all(&self) -> impl Iterator<Item = &Capability> {
        self.capabilities.iter().chain(&self.optional)
    }
}

/// `[[cpuid]]`: what the guest must see in one leaf and subleaf.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CpuidLeaf {
    /// EAX on entry
    pub leaf: u32,
    /// ECX on entry
    #[serde(default)]
    pub subleaf: u32,
    /// the change of EAX
    #[serde(default)]
    pub eax: RegisterSpec,
    /// the change of EBX
    #[serde(default)]
    pub ebx: RegisterSpec,
    /// the change of ECX
    #[serde(default)]
    pub ecx: RegisterSpec,
    /// the change of EDX
    #[serde(default)]
    pub edx: RegisterSpec,
}

/// A register of a CPUID leaf: bits set and cleared, or the whole value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterSpec {
    /// numbers of the bits that must be 1, 0 to 31
    #[serde(default)]
    pub set: Vec<u8>,
    /// numbers of the bits that must be 0
    #[serde(default)]
    pub clear: Vec<u8>,
    /// the whole register, in place of `set` and `clear`
    #[serde(default)]
    pub value: Option<u32>,
}

impl RegisterSpec {
    /// The change as masks.
    ///
    /// # Errors
    /// What contradicts itself or is no bit.
    pub(crate) fn change(&self) -> Result<RegisterChange, String> {
        if let Some(value) = self.value {
            if !(self.set.is_empty() && self.clear.is_empty()) {
                return Err("`value` is the whole register; leave out `set` and `clear`".into());
            }
            return Ok(RegisterChange { set: value, clear: !value });
        }
        let mask = |bits: &[u8]| {
            bits.iter().try_fold(0u32, |mask, &bit| {
                let bit = 1u32.checked_shl(u32::from(bit));
                bit.map(|bit| mask | bit).ok_or("bits of a CPUID register are 0 to 31")
            })
        };
        let (set, clear) = (mask(&self.set)?, mask(&self.clear)?);
        match set & clear {
            0 => Ok(RegisterChange { set, clear }),
            both => Err(format!("bit {} is both in `set` and in `clear`", both.trailing_zeros())),
        }
    }
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the TOML of a manifest.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A mistake with its place in the text.
    #[error("{place}: {mistake}")]
    At {
        /// Where it is.
        place: Place,
        /// what it is
        mistake: Box<ManifestError>,
    },
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Utf8,
    /// A name that is none.
    #[error("plugin name `{0}` must be 1 to 64 lower-case letters, digits or `-`")]
    Name(String),
    /// Built for another ABI.
    #[error(
        "it is built for ABI {0}, and this wasmsr speaks ABI {ABI_VERSION}; build the plugin with a matching SDK"
    )]
    Abi(u32),
    /// Nothing to answer.
    #[error("it names no MSR; add an [[msr]] table or [unhandled] reasons")]
    Idle,
    /// A claim with neither, or both.
    #[error("[[msr]] takes either `range` or `config`, the key where the profile lists the MSRs")]
    RangeOrConfig,
    /// An entry of the configuration that is no claim.
    #[error(transparent)]
    Listed(#[from] ListedError),
    /// A claim that nothing could turn on.
    #[error(
        "[[msr]] {0} says intercept = \"off\", but nothing could turn it on; add `intercept` to \
         [needs] capabilities"
    )]
    Reserved(String),
    /// A plugin overlaps itself.
    #[error("the ranges {0} and {1} overlap; write each MSR and direction once")]
    Overlap(MsrRange, MsrRange),
    /// A CPUID register that contradicts itself.
    #[error("[[cpuid]] leaf {leaf:#x}, subleaf {subleaf:#x}, {register}: {message}")]
    Cpuid {
        /// The leaf.
        leaf: u32,
        /// The subleaf.
        subleaf: u32,
        /// The register's name.
        register: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl ManifestError {
    /// With its place, where the text has one.
    fn at(self, place: Option<Place>) -> Self {
        match place {
            Some(place) => ManifestError::At { place, mistake: Box::new(self) },
            None => self,
        }
    }
}

impl Manifest {
    /// Reads and validates the bytes of the custom section.
    ///
    /// # Errors
    /// [`ManifestError`] for the first mistake found, with its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let place = toml_file::place(&String::from_utf8_lossy(good), good.len());
            ManifestError::Utf8.at(Some(place))
        })?;
        let file: File = toml_file::parse(text)?;
        file.validate().map_err(|(mistake, spot)| mistake.at(places::of(text, spot)))?;
        Ok(file.into())
    }

    /// Whether the plugin may be asked for accesses in this direction.
    pub fn answers(&self, direction: Direction) -> bool {
        let unhandled = !self.unhandled.reasons.is_empty();
        unhandled
            || self.msr.iter().any(|claim| claim.access.contains(direction))
            || self.listed.iter().any(|claim| claim.access.contains(direction))
    }

    /// The manifest with the claims that a configuration, JSON text, lists.
    ///
    /// # Errors
    /// [`ManifestError`] for an entry that is no claim, by its key, or ranges
    /// that overlap.
    pub fn with_listed_claims(mut self, config: &str) -> Result<Self, ManifestError> {
        for claim in &self.listed {
            self.msr.extend(claim.read(config)?);
        }
        let claims = self.msr.iter().map(|claim| (claim.range, claim.access));
        match Overlap::first(claims) {
            Some(Overlap { earlier, later, .. }) => Err(ManifestError::Overlap(earlier, later)),
            None => Ok(self),
        }
    }
}

impl File {
    /// What the types cannot say. A mistake comes with where it is.
    fn validate(&self) -> Result<(), (ManifestError, Spot)> {
        let name = &self.plugin.name;
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(letter) {
            return Err((ManifestError::Name(name.clone()), Spot::Name));
        }
        if self.plugin.abi != ABI_VERSION {
            return Err((ManifestError::Abi(self.plugin.abi), Spot::Abi));
        }
        if self.msr.is_empty() && self.unhandled.reasons.is_empty() {
            return Err((ManifestError::Idle, Spot::Plugin));
        }
        let switches = self.needs.all().any(|asked| *asked == Capability::Intercept);
        for (number, table) in self.msr.iter().enumerate() {
            let which = match (&table.range, &table.config) {
                (Some(range), None) => range.to_string(),
                (None, Some(key)) => format!("config = {key:?}"),
                _ => return Err((ManifestError::RangeOrConfig, Spot::Msr(number))),
            };
            if table.intercept == Intercept::Off && !switches {
                return Err((ManifestError::Reserved(which), Spot::Intercept(number)));
            }
        }
        self.refuse_overlap()?;
        for (number, leaf) in self.cpuid.iter().enumerate() {
            for (register, spec) in leaf.registers() {
                spec.change().map_err(|message| {
                    let CpuidLeaf { leaf, subleaf, .. } = *leaf;
                    let mistake = ManifestError::Cpuid { leaf, subleaf, register, message };
                    (mistake, Spot::Cpuid(number, register))
                })?;
            }
        }
        Ok(())
    }

    fn refuse_overlap(&self) -> Result<(), (ManifestError, Spot)> {
        let tables = self.msr.iter().enumerate();
        let (numbers, claims): (Vec<_>, Vec<_>) = tables
            .filter_map(|(number, table)| Some((number, (table.range?, table.access))))
            .unzip();
        let Some(Overlap { earlier, later, place }) = Overlap::first(claims.into_iter()) else {
            return Ok(());
        };
        let number = numbers.get(place).copied().unwrap_or_default();
        Err((ManifestError::Overlap(earlier, later), Spot::Range(number)))
    }
}

impl From<File> for Manifest {
    fn from(file: File) -> Self {
        let File { plugin, msr: tables, unhandled, needs, cpuid } = file;
        let (mut msr, mut listed) = (Vec::new(), Vec::new());
        for MsrTable { range, config, access, scope, intercept } in tables {
            msr.extend(range.map(|range| MsrClaim { range, access, scope, intercept }));
            listed.extend(config.map(|key| ListedClaim { key, access, scope, intercept }));
        }
        Manifest { plugin, msr, listed, unhandled, needs, cpuid }
    }
}

impl CpuidLeaf {
    /// The registers with their names.
    pub(crate) fn registers(&self) -> [(&'static str, &RegisterSpec); 4] {
        [("eax", &self.eax), ("ebx", &self.ebx), ("ecx", &self.ecx), ("edx", &self.edx)]
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
