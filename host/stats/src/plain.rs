//! Text of unknown origin, made harmless: nothing in it moves a terminal's cursor,
//! or changes colours or the direction of writing.

use std::fmt::Write as _;

/// Longest name that is kept whole. Plugins' names have at most 64 bytes.
const LONGEST: usize = 72;

/// A name or a version: short, and on one line.
pub fn plain(text: &str) -> String {
    plain_up_to(text, LONGEST)
}

/// A text of at most so many characters, on one line.
pub fn plain_up_to(text: &str, longest: usize) -> String {
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
pub fn plain_lines(text: &str) -> String {
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

/// Whether a character does something instead of being seen: controls, those of
/// Unicode that turn the text around, and its `Default_Ignorable_Code_Point`s,
/// which are invisible.
pub fn is_active(character: char) -> bool {
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
}
