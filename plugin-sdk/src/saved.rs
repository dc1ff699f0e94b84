//! A state that an earlier instance handed over.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// A saved state, and the version of the plugin that saved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    state: Vec<u8>,
    version: String,
}

impl Saved {
    pub(crate) fn new(state: Vec<u8>, version: String) -> Self {
        Saved { state, version }
    }

    /// The state as [`Persist::save`](crate::Persist::save) returned it.
    ///
    /// # Errors
    /// The state does not deserialise to `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.state).map_err(|error| {
            Error::new(format_args!(
                "state saved by version {} does not fit: {error}",
                self.version
            ))
        })
    }

    /// Version of the plugin that saved the state, from its manifest; or the version for
    /// which a newer one has written it.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// A state in the form in which the host keeps it.
pub(crate) fn to_json(state: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(state)
        .map_err(|error| Error::new(format_args!("the state cannot be written as JSON: {error}")))
}
