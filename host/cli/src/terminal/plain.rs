//! Text from files and plugins, and JSON that holds it, made harmless on a terminal:
//! nothing in it moves the cursor, or changes colours or the direction of writing.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};
use wasmsr_stats::plain::is_active;

pub(crate) use wasmsr_stats::plain::{plain, plain_lines, plain_up_to};

/// Writes JSON with such characters escaped, as JSON's strings allow.
pub(crate) fn write_json(out: impl Write, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(out, Inactive))
}

/// The same as text.
pub(crate) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    write_json(&mut bytes, value)?;
    // serde_json writes UTF-8 and nothing else.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The same with line breaks, for a command that prints one object.
pub(crate) fn pretty_json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let mut plain = String::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        // JSON's strings hold no line breaks: these are between values.
        if character == '\n' || !is_active(character) {
            plain.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut units) {
            // A String takes everything.
            let _ = write!(plain, "\\u{unit:04x}");
        }
    }
    Ok(plain)
}

struct Inactive;

impl Formatter for Inactive {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if !fragment.contains(is_active) {
            return CompactFormatter.write_string_fragment(writer, fragment);
        }
        let mut units = [0; 2];
        let mut bytes = [0; 4];
        for character in fragment.chars() {
            if is_active(character) {
                for unit in character.encode_utf16(&mut units) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            } else {
                writer.write_all(character.encode_utf8(&mut bytes).as_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_serde_leaves() {
        let text = "a\u{9b}\u{202e}\u{e0001}\"\u{1b}";
        let escaped = json(&text).unwrap();
        assert_eq!(escaped, r#""a\u009b\u202e\udb40\udc01\"\u001b""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
        assert_eq!(pretty_json(&text).unwrap(), escaped);
        assert_eq!(pretty_json(&[1]).unwrap(), "[\n  1\n]");
    }
}
