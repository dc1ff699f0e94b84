//! Log lines, for the operator. The host limits their rate. No capability is
//! needed.
//!
//! ```
//! use wasmsr_sdk::log;
//!
//! log::info!("{} registers", 3);
//! ```

use core::fmt::{self, Write};

use crate::{abi, raw};

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

/// The severity of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// The plugin cannot do its work.
    Error = 1,
    /// The plugin does its work, but not as asked.
    Warn = 2,
    /// For an operator, about a healthy VM.
    Info = 3,
    /// For the plugin's author.
    Debug = 4,
}

/// Writes one line, cut after 1024 bytes. Plugins usually use the macros of this
/// module instead.
pub fn write(level: Level, text: fmt::Arguments<'_>) {
    // A text without arguments needs no buffer.
    if let Some(text) = text.as_str() {
        return raw::log(level as u32, text);
    }
    let mut line = Line { bytes: [0; abi::LOG_LINE], len: 0 };
    // A full line ends the formatting early, so it stays cheap.
    let _ = line.write_fmt(text);
    raw::log(level as u32, line.text());
}

/// Logs at [`Level::Error`], with the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Error, ::core::format_args!($($text)*)) };
}

/// Logs at [`Level::Warn`], with the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Warn, ::core::format_args!($($text)*)) };
}

/// Logs at [`Level::Info`], with the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Info, ::core::format_args!($($text)*)) };
}

/// Logs at [`Level::Debug`], with the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($text:tt)*) => { $crate::log::write($crate::log::Level::Debug, ::core::format_args!($($text)*)) };
}

/// A line that is being built, on the stack: logging allocates nothing.
struct Line {
    bytes: [u8; abi::LOG_LINE],
    len: usize,
}

impl Line {
    fn text(&self) -> &str {
        self.bytes.get(..self.len).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let (fits, cut) = text.split_at(text.floor_char_boundary(room));
        let end = self.len + fits.len();
        if let Some(free) = self.bytes.get_mut(self.len..end) {
            free.copy_from_slice(fits.as_bytes());
        }
        self.len = end;
        if cut.is_empty() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use crate::native::Host;

    use super::*;

    #[test]
    fn a_line_is_formatted() {
        let host = Host::fresh();
        super::warn!("{} of {}", 1, 2);
        assert_eq!(host.logged(), [(Level::Warn, String::from("1 of 2"))]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let host = Host::fresh();
        super::info!("{}{}", "x".repeat(1023), "äöü");
        assert_eq!(host.logged(), [(Level::Info, "x".repeat(1023))]);
    }
}
