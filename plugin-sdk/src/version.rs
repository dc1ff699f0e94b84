//! Versions of plugins: numbers, and the older one for which a state is written.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;

use crate::Error;
use crate::saved::to_json;

/// A version of a plugin as far as its saved state goes: `MAJOR.MINOR`. Versions that
/// differ in `PATCH` only write the same state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Of a text such as `1.2.3`.
    pub(crate) fn of(text: &str) -> Result<Version, Error> {
        let mut parts = text.split('.');
        let mut part = || parts.next().and_then(|part| part.parse().ok());
        let version = part().and_then(|major| Some(Version(major, part()?)));
        version.ok_or_else(|| {
            Error::new(format_args!("`{text}` is no version: it does not begin with MAJOR.MINOR"))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version(major, minor) = self;
        write!(f, "{major}.{minor}")
    }
}

/// The older version of the plugin for which a state is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Older {
    version: String,
    known: Version,
    own: Version,
}

impl Older {
    pub(crate) fn new(version: String, own: Version) -> Result<Self, Error> {
        let known = Version::of(&version)?;
        Ok(Older { version, known, own })
    }

    /// Its numbers.
    pub(crate) fn known(&self) -> Version {
        self.known
    }

    /// That version, from its manifest.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Writes this version's own state, as an older one reads it that has the same
    /// `MAJOR.MINOR`.
    ///
    /// # Errors
    /// Another `MAJOR.MINOR`: nothing says what that version reads.
    pub fn write_same(&self, state: &impl Serialize) -> Result<Vec<u8>, Error> {
        if self.known != self.own {
            return Err(Error::new(format_args!(
                "this version {} does not know what version {} reads, so it writes no state \
                 for it",
                self.own, self.version
            )));
        }
        to_json(state)
    }
}
