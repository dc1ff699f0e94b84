//! Text from files and plugins, made fit for a terminal: nothing in it moves
//! the cursor, changes colours or the direction of writing. Names and lines from
//! recordings are kept short, too.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Longest name that is printed whole. Plugins' names have at most 64 bytes.
const LONGEST: usize = 72;

/// A name or a version: short, and on one line.
pub(crate) fn plain(text: &str) -> String {
    plain_up_to(text, LONGEST)
}

/// A text of at most so many characters, on one line.
pub(crate) fn plain_up_to(text: &str, longest: usize) -> String {
    let mut plain = String::new();
    for (number, character) in text.chars().enumerate() {
        if number >= longest {
            plain.push('…');
            break;
        }
        push(&mut plain, character, is_active(character));
    }
    plain
}

/// A text of any length, with its lines and tabs as they are.
pub(crate) fn plain_lines(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        push(&mut plain, character, is_active(character) && !matches!(character, '\n' | '\t'));
    }
    plain
}

fn push(plain: &mut String, character: char, is_active: bool) {
    match is_active {
        // A String takes everything.
        true => drop(write!(plain, "{}", character.escape_unicode())),
        false => plain.push(character),
    }
}

/// JSON in which such characters are escaped, as JSON's strings allow.
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

/// The same with line breaks, for a command's one object.
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

/// Whether a character does something instead of being seen: controls, those of
/// Unicode that turn the text around, and its `Default_Ignorable_Code_Point`s,
/// which are invisible.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fff8}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_they_are() {
        assert_eq!(plain("arch-capabilities"), "arch-capabilities");
        assert_eq!(plain("Grüße, 世界"), "Grüße, 世界");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_obeys() {
        assert_eq!(plain("\u{1b}[31mred\r\n"), r"\u{1b}[31mred\u{d}\u{a}");
        assert_eq!(plain("\u{9b}2J\u{202e}txt"), r"\u{9b}2J\u{202e}txt");
        assert_eq!(plain("a\u{3164}\u{34f}\u{fe0f}b"), r"a\u{3164}\u{34f}\u{fe0f}b");
    }

    #[test]
    fn lines_stay_lines() {
        let text = plain_lines("a\tb\n\u{1b}]0;t\u{7}\rc\u{202e}\n");
        assert_eq!(text, "a\tb\n\\u{1b}]0;t\\u{7}\\u{d}c\\u{202e}\n");
    }

    #[test]
    fn long_names_are_cut() {
        let name = plain(&"x".repeat(1 << 20));
        assert_eq!(name.chars().count(), LONGEST + 1);
    }

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
