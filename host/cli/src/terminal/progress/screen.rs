//! Standard error as the bar sees it: a little narrower than it is, since the
//! terminal shows Ctrl-C where the cursor stands. On a full line that would begin
//! another one, and the bar would stay behind.

use std::io::{self, Write};

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;

/// What the terminal may show of a key, and the cursor behind it.
const ROOM_FOR_ECHO: u16 = 4;

/// Where the terminal does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

#[derive(Debug)]
pub(super) struct Screen;

impl Screen {
    fn write(text: &str) -> io::Result<()> {
        io::stderr().write_all(text.as_bytes())
    }

    /// Moves the cursor; a count of 0 would be taken for 1.
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
