//! Plugins whose state goes from version to version.

use alloc::vec::Vec;

use serde::Serialize;

use crate::{Error, Format, Older, Persist, Plugin, Saved, Version};

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
        not_too_old::<P::State>(older.version(), older.known())?;
        self.state().write(older.known())
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

/// A plugin that [`export!`](crate::export!) makes a module.
pub trait Exported {
    /// Its version, from its manifest.
    const VERSION: Version;
}

#[cfg(test)]
mod tests;
