//! What each version of a plugin saves, and the way from one format to the next and back.

use alloc::vec::Vec;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::saved::to_json;
use crate::{Error, Saved, Version};

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
            true => to_json(&self),
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
