//! Standard error for the bar, a little narrower than the terminal: Ctrl-C is echoed
//! where the cursor is. On a full line the echo would begin a new line, and the bar
//! would stay on the old one.

use std::io::{self, Write};

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;

/// Columns for the echo of a key and the cursor behind it.
const ROOM_FOR_ECHO: u16 = 4;

/// The width if the terminal does not tell its own.
const USUAL_WIDTH: u16 = 80;

#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    fn write(text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    /// Moves the cursor. Terminals take a count of 0 for 1, so nothing is sent for it.
    fn step(count: usize, direction: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            count => Self::write(&format!("\x1b[{count}{direction}")),
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        let columns = tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
        let columns = if columns == 0 { USUAL_WIDTH } else { columns };
        columns.saturating_sub(ROOM_FOR_ECHO).max(1)
    }

    fn move_cursor_up(&self, count: usize) -> io::Result<()> {
        Self::step(count, 'A')
    }

    fn move_cursor_down(&self, count: usize) -> io::Result<()> {
        Self::step(count, 'B')
    }

    fn move_cursor_right(&self, count: usize) -> io::Result<()> {
        Self::step(count, 'C')
    }

    fn move_cursor_left(&self, count: usize) -> io::Result<()> {
        Self::step(count, 'D')
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        Self::write(&format!("{line}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        Self::write(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        Self::write("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
