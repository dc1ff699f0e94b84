//! State across versions: what each version of a plugin writes, and the way from one
//! to the next and back.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Persist, Plugin, Saved, export};

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

/// The state that a version of a plugin writes, and those after it up to the next
/// format.
///
/// ```
/// use wasmsr_sdk::{Error, Follows, Format, Oldest, Version};
/// # use serde::{Deserialize, Serialize};
///
/// /// Since 0.1: the reads alone.
/// #[derive(Serialize, Deserialize)]
/// struct Reads(u64);
///
/// impl Format for Reads {
///     const SINCE: Version = Version(0, 1);
///     type Before = Oldest;
/// }
///
/// /// Since 0.2: reads and writes.
/// #[derive(Serialize, Deserialize)]
/// struct Counts {
///     reads: u64,
///     writes: u64,
/// }
///
/// impl Format for Counts {
///     const SINCE: Version = Version(0, 2);
///     type Before = Reads;
/// }
///
/// impl Follows<Reads> for Counts {
///     fn up(Reads(reads): Reads) -> Result<Self, Error> {
///         Ok(Counts { reads, writes: 0 })
///     }
///
///     fn down(self) -> Result<Reads, Error> {
///         match self.writes {
///             0 => Ok(Reads(self.reads)),
///             writes => Err(Error::new(format_args!(
///                 "version 0.1 cannot hold that the guest has written {writes} times"
///             ))),
///         }
///     }
/// }
/// ```
///
/// A state goes up and down through all formats between its own and the one that is
/// wanted.
pub trait Format: Serialize + DeserializeOwned + Follows<<Self as Format>::Before> {
    /// The first version that writes it.
    const SINCE: Version;

    /// What the versions before that wrote; [`Oldest`] if none is supported.
    type Before: Format;

    /// Reads a state of this version, or of one that was before this format.
    #[doc(hidden)]
    fn read(saved: &Saved, version: Version) -> Result<Self, Error> {
        match version >= Self::SINCE {
            true => saved.state(),
            false => Self::up(Self::Before::read(saved, version)?),
        }
    }

    /// Writes the state for this version.
    #[doc(hidden)]
    fn write(self, version: Version) -> Result<Vec<u8>, Error> {
        match version >= Self::SINCE {
            true => export::to_json(&self),
            false => self.down()?.write(version),
        }
    }

    /// The first version of all whose state is known.
    #[doc(hidden)]
    const FIRST: Version = match <Self::Before as Format>::IS_OLDEST {
        true => Self::SINCE,
        false => <Self::Before as Format>::FIRST,
    };

    #[doc(hidden)]
    const IS_OLDEST: bool = false;
}

/// The way from the format before to this one, and back.
pub trait Follows<Before>: Sized {
    /// The state from what an older version saved.
    ///
    /// # Errors
    /// A state that no plugin of the older version can have saved.
    fn up(before: Before) -> Result<Self, Error>;

    /// The state as the older version would have saved it: it continues with it when it
    /// comes back.
    ///
    /// # Errors
    /// A state that the older version cannot hold. The newer one then stays in charge.
    fn down(self) -> Result<Before, Error>;
}

/// Before the first format: no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oldest {}

impl Serialize for Oldest {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }
}

impl<'de> Deserialize<'de> for Oldest {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("there is no state before the first format"))
    }
}

impl Format for Oldest {
    const SINCE: Version = Version(0, 0);
    type Before = Oldest;
    const FIRST: Version = Version(0, 0);
    const IS_OLDEST: bool = true;

    fn read(_: &Saved, version: Version) -> Result<Self, Error> {
        Err(Error::new(format_args!("no state of version {version} is known")))
    }

    fn write(self, _: Version) -> Result<Vec<u8>, Error> {
        match self {}
    }
}

impl<T: Sized> Follows<Oldest> for T {
    fn up(before: Oldest) -> Result<Self, Error> {
        match before {}
    }

    fn down(self) -> Result<Oldest, Error> {
        Err(Error::new("there is no older format"))
    }
}

/// Hook of a plugin whose state goes from one version to the next and back: it is
/// [`Persist`], by conversions between the [`Format`]s of its versions.
///
/// The newest format is [`Versioned::State`]. A state of a version that is newer than
/// the plugin, or older than its first format, is refused, and so is a request to
/// write for such a version.
pub trait Versioned: Plugin + Exported {
    /// What this version saves.
    type State: Format;

    /// The state to save; as JSON it may have at most 64 KiB.
    fn state(&self) -> Self::State;

    /// Restores a saved state, in an instance that [`Plugin::new`] has just made.
    ///
    /// # Errors
    /// A state that this instance cannot use. The old instance then stays in charge.
    fn take_over(&mut self, state: Self::State) -> Result<(), Error>;
}

impl<P: Versioned> Persist for P {
    fn save(&self) -> impl Serialize {
        self.state()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let version = Version::of(saved.version())?;
        if version > P::VERSION {
            return Err(Error::new(format_args!(
                "the state is of version {}, and this is {}, which does not know it; let the \
                 newer version write it for this one",
                saved.version(),
                P::VERSION,
            )));
        }
        not_too_old::<P::State>(saved.version(), version)?;
        self.take_over(P::State::read(saved, version)?)
    }

    fn save_for(&self, older: &Older) -> Result<Vec<u8>, Error> {
        not_too_old::<P::State>(older.version(), older.known)?;
        self.state().write(older.known)
    }
}

fn not_too_old<F: Format>(text: &str, version: Version) -> Result<(), Error> {
    match version >= F::FIRST {
        true => Ok(()),
        false => Err(Error::new(format_args!(
            "version {text} is older than {}, the first whose state is known",
            F::FIRST
        ))),
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
        export::to_json(state)
    }
}

/// A plugin that [`export!`](crate::export!) makes a module.
pub trait Exported {
    /// Its version, from its manifest.
    const VERSION: Version;
}

#[cfg(test)]
mod tests;
