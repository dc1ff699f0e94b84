//! Why a plugin refuses its configuration or a saved state.

use alloc::string::{String, ToString};
use core::fmt;

/// A refusal with a text for the operator. Write it in lower case with no full
/// stop, and say which value is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// An error with this text.
    pub fn new(text: impl fmt::Display) -> Self {
        Error(text.to_string())
    }

    /// An error about one key of the configuration, such as
    /// `registers[2].mask`.
    pub fn in_config(key: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Error::new(format_args!("config key `{key}`: {problem}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}
