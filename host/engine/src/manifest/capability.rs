//! What a plugin may do beyond answering: what its manifest asks for, what a
//! profile grants, and what a plugin thereby has.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

use wasmsr_interface::{MsrIndex, MsrRange, ParseRangeError};

/// The capabilities as profiles grant them, and what each gives.
pub(crate) const CAPABILITIES: &[(&str, &str)] = &[
    ("guest-memory", "reading and writing guest-physical memory"),
    ("kvm-msr", "reading and writing KVM's own MSR values of this vCPU"),
    (
        "host-msr:RANGE",
        "reading these MSRs of the physical CPUs, as in `\"host-msr:0x606\"` or \
         `\"host-msr:0x606-0x611\"`",
    ),
    (
        "host-file:NAME=PATH",
        "reading this file of the host, at most its first 4096 bytes; NAME is the plugin's word \
         for it",
    ),
    ("intercept", "changing which of its own MSRs exit"),
    ("timer", "being called at a time"),
];

/// The capabilities as manifests ask for them: a manifest names a file, a profile its
/// path.
fn names() -> String {
    let asked = CAPABILITIES.iter().map(|(granted, _)| granted.split('=').next());
    asked.flatten().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// What a manifest asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Read and write guest memory.
    GuestMemory,
    /// Read and write KVM's own MSR values.
    KvmMsr,
    /// Read these MSRs of the host; `None`: those that the profile grants.
    HostMsr(Option<MsrRange>),
    /// Read a file of the host, under this name.
    HostFile(String),
    /// Change its own intercepts.
    Intercept,
    /// Be called at a time.
    Timer,
}

/// What a profile grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// [`Capability::GuestMemory`]
    GuestMemory,
    /// [`Capability::KvmMsr`]
    KvmMsr,
    /// [`Capability::HostMsr`]
    HostMsr(MsrRange),
    /// [`Capability::HostFile`]
    HostFile {
        /// The name by which the plugin asks for it.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// [`Capability::Intercept`]
    Intercept,
    /// [`Capability::Timer`]
    Timer,
}

/// What a plugin has: asked for and granted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    pub(crate) guest_memory: bool,
    pub(crate) kvm_msr: bool,
    pub(crate) intercept: bool,
    pub(crate) timer: bool,
    host_msrs: Vec<MsrRange>,
    host_files: Vec<(String, PathBuf)>,
}

impl Grant {
    /// Whether this grant gives all of what `asked` asks for.
    pub fn gives(&self, asked: &Capability) -> bool {
        match (self, asked) {
            (Grant::HostMsr(granted), Capability::HostMsr(Some(asked))) => {
                granted.intersection(*asked) == Some(*asked)
            }
            (Grant::HostMsr(_), Capability::HostMsr(None))
            | (Grant::GuestMemory, Capability::GuestMemory)
            | (Grant::KvmMsr, Capability::KvmMsr)
            | (Grant::Intercept, Capability::Intercept)
            | (Grant::Timer, Capability::Timer) => true,
            (Grant::HostFile { name, .. }, Capability::HostFile(asked)) => name == asked,
            _ => false,
        }
    }

    /// The grant with its path taken as relative to `directory`.
    pub(crate) fn within(self, directory: &Path) -> Self {
        match self {
            Grant::HostFile { name, path } => Grant::HostFile { name, path: directory.join(path) },
            other => other,
        }
    }
}

impl Held {
    /// What of `asked` is among `granted`.
    pub(crate) fn new<'a>(asked: impl Iterator<Item = &'a Capability>, granted: &[Grant]) -> Self {
        let mut held = Held::default();
        for asked in asked {
            for grant in granted.iter().filter(|grant| grant.gives(asked)) {
                match (grant, asked) {
                    (Grant::GuestMemory, _) => held.guest_memory = true,
                    (Grant::KvmMsr, _) => held.kvm_msr = true,
                    (Grant::Intercept, _) => held.intercept = true,
                    (Grant::Timer, _) => held.timer = true,
                    (Grant::HostMsr(granted), Capability::HostMsr(asked)) => {
                        held.host_msrs.push(asked.unwrap_or(*granted));
                    }
                    (Grant::HostMsr(_), _) => {}
                    (Grant::HostFile { name, path }, _) => {
                        held.host_files.push((name.clone(), path.clone()));
                    }
                }
            }
        }
        held
    }

    /// Whether the plugin may read this MSR of the host.
    pub(crate) fn host_msr(&self, index: MsrIndex) -> bool {
        self.host_msrs.iter().any(|range| range.contains(index))
    }

    /// The file behind a name.
    pub(crate) fn host_file(&self, name: &str) -> Option<&Path> {
        let mut files = self.host_files.iter();
        files.find(|(held, _)| held == name).map(|(_, path)| path.as_path())
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capability::GuestMemory => f.write_str("guest-memory"),
            Capability::KvmMsr => f.write_str("kvm-msr"),
            Capability::HostMsr(None) => f.write_str("host-msr"),
            Capability::HostMsr(Some(range)) => write!(f, "host-msr:{range}"),
            Capability::HostFile(name) => write!(f, "host-file:{name}"),
            Capability::Intercept => f.write_str("intercept"),
            Capability::Timer => f.write_str("timer"),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Grant::GuestMemory => Capability::GuestMemory.fmt(f),
            Grant::KvmMsr => Capability::KvmMsr.fmt(f),
            Grant::HostMsr(range) => write!(f, "host-msr:{range}"),
            Grant::HostFile { name, path } => write!(f, "host-file:{name}={}", path.display()),
            Grant::Intercept => Capability::Intercept.fmt(f),
            Grant::Timer => Capability::Timer.fmt(f),
        }
    }
}

/// Why a text is not a capability, or not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseCapabilityError {
    /// None of that name.
    #[error("unknown capability `{0}`, expected one of {names}", names = names())]
    Unknown(String),
    /// `host-msr` with a bad range.
    #[error("capability `host-msr` needs the MSRs it covers, as in `host-msr:0x606-0x611`: {0}")]
    Range(#[from] ParseRangeError),
    /// `host-file` without a name.
    #[error(
        "capability `host-file` needs a name of lower-case letters, digits or `-`, as in \
         `host-file:energy`"
    )]
    Name,
    /// A grant of `host-file` without a path.
    #[error(
        "a grant of `host-file` names the file, as in \
         `host-file:energy=/sys/class/powercap/intel-rapl:0/energy_uj`"
    )]
    Path,
}

impl FromStr for Capability {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = split(text);
        match (name, rest) {
            ("guest-memory", None) => Ok(Capability::GuestMemory),
            ("kvm-msr", None) => Ok(Capability::KvmMsr),
            ("intercept", None) => Ok(Capability::Intercept),
            ("timer", None) => Ok(Capability::Timer),
            ("host-msr", None) => Ok(Capability::HostMsr(None)),
            ("host-msr", Some(range)) => Ok(Capability::HostMsr(Some(range.parse()?))),
            ("host-file", name) => Ok(Capability::HostFile(file_name(name.unwrap_or_default())?)),
            _ => Err(ParseCapabilityError::Unknown(text.to_owned())),
        }
    }
}

impl FromStr for Grant {
    type Err = ParseCapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = split(text);
        if name == "host-file" {
            let (name, path) =
                rest.unwrap_or_default().split_once('=').ok_or(ParseCapabilityError::Path)?;
            return match path.is_empty() {
                true => Err(ParseCapabilityError::Path),
                false => Ok(Grant::HostFile { name: file_name(name)?, path: path.into() }),
            };
        }
        Ok(match text.parse()? {
            Capability::GuestMemory => Grant::GuestMemory,
            Capability::KvmMsr => Grant::KvmMsr,
            Capability::Intercept => Grant::Intercept,
            Capability::Timer => Grant::Timer,
            Capability::HostMsr(Some(range)) => Grant::HostMsr(range),
            Capability::HostMsr(None) => {
                return Err(ParseRangeError::Index(String::new()).into());
            }
            Capability::HostFile(_) => return Err(ParseCapabilityError::Path),
        })
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((name, rest)) => (name, Some(rest)),
        None => (text, None),
    }
}

fn file_name(name: &str) -> Result<String, ParseCapabilityError> {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match (1..=64).contains(&name.len()) && name.bytes().all(letter) {
        true => Ok(name.to_owned()),
        false => Err(ParseCapabilityError::Name),
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed(PhantomData))
    }
}

/// Parses within the deserializer, so that an error has the place of the text
/// and not of the list around it.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err = ParseCapabilityError>> de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a capability such as \"timer\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn asked(text: &str) -> Capability {
        text.parse().unwrap()
    }

    fn granted(text: &str) -> Grant {
        text.parse().unwrap()
    }

    #[test]
    fn a_text_is_read_as_it_is_shown() {
        let both = ["guest-memory", "kvm-msr", "host-msr:0x606-0x611", "intercept", "timer"];
        for text in both.into_iter().chain(["host-msr", "host-file:energy"]) {
            assert_eq!(asked(text).to_string(), text);
        }
        for text in both.into_iter().chain(["host-file:energy=/sys/energy_uj"]) {
            assert_eq!(granted(text).to_string(), text);
        }
    }

    #[test]
    fn each_that_is_documented_is_there() {
        for (form, gives) in CAPABILITIES {
            let text = form.replace("RANGE", "0x606").replace("NAME=PATH", "energy=/sys/energy_uj");
            granted(&text);
            let limit = format!("{} bytes", limits::HOST_FILE);
            assert!(!form.starts_with("host-file") || gives.contains(&limit), "{gives}");
        }
        assert!(names().ends_with("`host-file:NAME`, `intercept`, `timer`"));
    }

    #[test]
    fn mistakes_are_named() {
        let asked = |text: &str| text.parse::<Capability>().unwrap_err().to_string();
        let granted = |text: &str| text.parse::<Grant>().unwrap_err().to_string();
        assert!(asked("root").contains("unknown capability `root`"));
        assert!(asked("timer:5").contains("unknown capability `timer:5`"));
        assert!(asked("host-msr:x").contains("needs the MSRs"));
        assert!(asked("host-file").contains("needs a name"));
        assert!(asked("host-file:a/b").contains("needs a name"));
        assert!(granted("host-msr").contains("needs the MSRs"));
        assert!(granted("host-file:energy").contains("names the file"));
        assert!(granted("host-file:energy=").contains("names the file"));
        assert!(granted("host-file:=/etc").contains("needs a name"));
    }

    #[test]
    fn a_grant_of_host_msrs_gives_what_lies_within() {
        let grant = granted("host-msr:0x600-0x6ff");
        assert!(grant.gives(&asked("host-msr:0x606-0x611")));
        assert!(grant.gives(&asked("host-msr")));
        assert!(!grant.gives(&asked("host-msr:0x5ff-0x611")));
        assert!(!grant.gives(&asked("kvm-msr")));
    }

    #[test]
    fn a_plugin_has_what_is_both_asked_and_granted() {
        let grants = ["host-msr:0x600-0x6ff", "host-file:b=/b", "host-file:c=/c", "timer"];
        let grants = grants.map(granted);
        let held = Held::new([asked("host-msr:0x606"), asked("host-file:b")].iter(), &grants);
        assert!(held.host_msr(MsrIndex(0x606)) && !held.host_msr(MsrIndex(0x607)));
        assert_eq!(held.host_file("b"), Some(Path::new("/b")));
        assert_eq!(held.host_file("c"), None);
        assert!(!held.timer && !held.kvm_msr);
        let held = Held::new([asked("host-msr"), asked("timer")].iter(), &grants);
        assert!(held.host_msr(MsrIndex(0x6ff)) && !held.host_msr(MsrIndex(0x700)));
        assert!(held.timer);
    }
}
