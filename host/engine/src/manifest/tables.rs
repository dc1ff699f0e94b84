//! The tables of a manifest, as they are written.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::{Directions, MsrRange, Reason};

use super::capability::Capability;
use super::claim::{Intercept, Scope};
use super::cpuid::CpuidLeaf;

/// Name of the Wasm custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "wasmsr.manifest";

/// The ABI version that this engine speaks.
pub const ABI_VERSION: u32 = 1;

// The doc comments of these tables are the manifest reference.

/// the manifest of a plugin for wasmsr: what it answers and what it asks for
#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// what it is
    pub(super) plugin: About,
    /// the MSRs that it answers
    #[serde(default)]
    pub(super) msr: Vec<MsrTable>,
    /// accesses that no plugin claims and that KVM would refuse
    #[serde(default)]
    pub(super) unhandled: Unhandled,
    /// what it needs beyond answering
    #[serde(default)]
    pub(super) needs: Needs,
    /// what the guest must see in CPUID
    #[serde(default)]
    pub(super) cpuid: Vec<CpuidLeaf>,
}

/// `[[msr]]` as it is written: with `range` or with `config`.
#[derive(Deserialize)]
#[cfg_attr(
    test,
    derive(JsonSchema),
    schemars(extend("oneOf" = [{ "required": ["range"] }, { "required": ["config"] }]))
)]
#[serde(deny_unknown_fields)]
pub(super) struct MsrTable {
    /// `"0x10a"`, `"0x40000000-0x400000ff"` with both ends included, or `0x10a`;
    /// this or `config`
    #[cfg_attr(test, schemars(with = "Option<kind::Range>"))]
    pub(super) range: Option<MsrRange>,
    /// the key of the configuration where the profile lists the MSRs; this or
    /// `range`
    pub(super) config: Option<String>,
    /// the directions that the plugin answers
    #[serde(default = "both")]
    #[cfg_attr(test, schemars(with = "kind::Access"))]
    pub(super) access: Directions,
    /// where the state is: `"vcpu"`, in one instance per vCPU, without a lock; or
    /// `"vm"`, in one instance for the VM
    #[serde(default)]
    pub(super) scope: Scope,
    /// `"on"`: the accesses exit from the start; `"off"`: they are KVM's until
    /// the plugin turns them on, with the capability `intercept`
    #[serde(default)]
    pub(super) intercept: Intercept,
}

/// `[plugin]`
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct About {
    /// 1 to 64 lower-case letters, digits or `-`; once in a profile
    pub name: String,
    /// the plugin's own version, [semantic versioning](https://semver.org)
    #[serde(deserialize_with = "version")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub version: semver::Version,
    /// the [ABI](abi.md) it is built for: `1`
    pub abi: u32,
    /// a line for people
    #[serde(default)]
    pub description: String,
}

/// `[unhandled]`
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unhandled {
    /// which accesses are offered; `"unknown"`: KVM does not know the MSR;
    /// `"invalid"`: KVM knows it and refuses the access
    pub reasons: Vec<UnhandledReason>,
    /// the scope of the instance that gets them; by default `"vm"` if all ranges of
    /// the plugin have `scope = "vm"`, else `"vcpu"`
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
    /// what the plugin can do without: host calls that need a capability which is not
    /// granted are refused
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

fn both() -> Directions {
    Directions::ReadWrite
}

/// A version in full, with what was written in the error.
fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<semver::Version, D::Error> {
    struct Visitor;
    impl de::Visitor<'_> for Visitor {
        type Value = semver::Version;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a version as text, such as \"1.0.0\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<semver::Version, E> {
            let shown = || text.chars().take(80).collect::<String>();
            text.parse().map_err(|error: semver::Error| match in_full(text) {
                Some(meant) => E::custom(format_args!(
                    "`{}` is not a version of three numbers; did you mean \"{meant}\"?",
                    shown()
                )),
                None => E::custom(format_args!(
                    "`{}` is not a semantic version such as \"1.0.0\": {error}",
                    shown()
                )),
            })
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// The version that a text with too few numbers, or with a `v`, stands for.
fn in_full(text: &str) -> Option<semver::Version> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let dots = text.split(['-', '+']).next()?.matches('.').count();
    [text.to_owned(), format!("{text}.0"), format!("{text}.0.0")]
        .get(2_usize.checked_sub(dots)?)?
        .parse()
        .ok()
}
