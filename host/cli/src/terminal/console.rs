//! The user's terminal: what the command and the guest print, what the guest reads,
//! and the terminal's settings, which are always restored.

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anstream::{AutoStream, ColorChoice};
use clap::builder::Styles;
use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tracing::Level;
use tracing::field::Field;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use wasmsr_vmm::Boot;
use wasmsr_vmm::Control;

use crate::terminal::log_record;
use crate::terminal::plain::plain_lines;
use crate::terminal::progress;

/// Prints a command's result on standard output. A reader that has closed the pipe is
/// not an error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush());
    reached(written).map(|_| ())
}

/// Standard output for long texts: line by line on a terminal, where people wait for
/// each line, and in large pieces otherwise.
pub(crate) fn output() -> Box<dyn Write> {
    let stdout = io::stdout().lock();
    match stdout.is_terminal() {
        true => Box::new(stdout),
        false => Box::new(BufWriter::with_capacity(1 << 16, stdout)),
    }
}

/// Whether there is still a reader. One that has closed the pipe is not an error, but
/// nothing more need be written.
pub(crate) fn reached(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Standard output for the guest's serial console: unbuffered, so that a prompt
/// without a line end is seen.
pub(crate) fn guest_output() -> io::Result<Box<dyn Write + Send>> {
    Ok(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
}

/// Whether standard error gets colours. The rule is clap's for its help, with
/// `NO_COLOR`, `CLICOLOR`, `CLICOLOR_FORCE` and `TERM`.
pub(crate) fn stderr_is_coloured() -> bool {
    AutoStream::choice(&io::stderr()) != ColorChoice::Never
}

/// Whether standard output gets colours, by the same rule.
pub(crate) fn stdout_is_coloured() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// Prints something beside the result: lines on standard error. The text may come from
/// a plugin or a file; it cannot control the terminal. With a log in JSON it is a record
/// of that.
pub(crate) fn say(text: &str) {
    write_stderr(&match log_record::is_json() {
        true => log_record::line(Level::INFO, text.trim_matches('\n')),
        false => format!("{}\n", plain_lines(text)),
    });
}

/// Prints why a command failed, in the style of clap's errors about arguments, or as a
/// record of a log in JSON.
pub(crate) fn print_error(error: &anyhow::Error) {
    if log_record::is_json() {
        return write_stderr(&log_record::line(Level::ERROR, &format!("{error:#}")));
    }
    let styles = Styles::default();
    let style = styles.get_error();
    let text = paragraph(&format!("{error:#}"));
    write_stderr(&match stderr_is_coloured() {
        true => format!("{style}error:{style:#} {text}\n"),
        false => format!("error: {text}\n"),
    });
}

/// Writes whole lines to standard error.
pub(crate) fn write_stderr(text: &str) {
    let mut stderr = Stderr;
    // If standard error is closed, the text is lost and the command continues.
    let _ = stderr.write_all(text.as_bytes());
}

/// A text with its further lines indented, so that none looks like another log line
/// or error.
fn paragraph(text: &str) -> String {
    plain_lines(text).replace('\n', "\n  ")
}

/// Writes a field of a log line, the message first. Its text may come from a plugin or
/// a file.
pub(crate) fn write_field(
    writer: &mut Writer<'_>,
    field: &Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let text = paragraph(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{text}"),
        name => write!(writer, " {name}={text}"),
    }
}

/// Standard error, from which a bar is cleared while something else is written. Lines
/// that cannot be written are lost.
pub(crate) struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self::Writer {
        Stderr
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        progress::aside(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Makes standard input the guest's keyboard, until the process ends.
///
/// For a kernel the terminal becomes raw: every key goes to the guest, Ctrl-C too, and
/// Ctrl-A x quits. For a multiboot image the terminal stays as it is. A built-in guest
/// reads nothing, so nothing is read for it.
pub(crate) fn attach_input(boot: &Boot, control: &Control) -> io::Result<Option<RawTerminal>> {
    let raw = match boot {
        Boot::Guest { .. } => return Ok(None),
        Boot::Image { .. } => None,
        Boot::Kernel { .. } => RawTerminal::enter()?,
    };
    let mut keys = raw.is_some().then(Keys::default);
    let control = control.clone();
    thread::Builder::new().name("console-input".into()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut buffer = [0; 256];
        loop {
            let typed = match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => buffer.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let (bytes, quit) = match &mut keys {
                Some(keys) => keys.typed(typed),
                None => (typed.to_vec(), false),
            };
            if quit {
                control.quit();
            }
            if !control.input(&bytes) {
                return;
            }
        }
    })?;
    Ok(raw)
}

/// Keeps the terminal raw while it lives.
pub(crate) struct RawTerminal;

/// The settings to restore. They are global, since a second signal ends the process
/// from a thread that does not have the guard.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

impl RawTerminal {
    /// Makes standard input raw, if it is a terminal.
    fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let cooked = tcgetattr(&stdin)?;
        let mut raw = cooked.clone();
        raw.local_modes -=
            LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        // Output stays cooked: log lines share the terminal, and a guest's carriage
        // returns do no harm.
        raw.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IXON;
        *COOKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(cooked);
        let guard = RawTerminal;
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        say("wasmsr: the terminal is the guest's; Ctrl-A x quits, Ctrl-A Ctrl-A types Ctrl-A");
        Ok(Some(guard))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal's settings, if they were changed.
pub(crate) fn restore() {
    let cooked = COOKED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(cooked) = cooked {
        // It fails if the terminal is closed, and then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &cooked);
    }
}

const ESCAPE: u8 = 0x01;

/// Separates the guest's keys from the command's, as QEMU's `-nographic` does.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// The keys for the guest, and whether the user wants to quit.
    fn typed(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut guest = Vec::new();
        for &byte in bytes {
            match (std::mem::take(&mut self.escaped), byte) {
                (false, ESCAPE) => self.escaped = true,
                (false, key) => guest.push(key),
                (true, b'x' | b'X') => return (guest, true),
                (true, ESCAPE) => guest.push(ESCAPE),
                // It was not an escape: the guest gets both keys.
                (true, key) => guest.extend([ESCAPE, key]),
            }
        }
        (guest, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &[&[u8]], expected: &[u8], quits: bool) {
        let mut keys = Keys::default();
        let mut guest = Vec::new();
        let mut quit = false;
        for bytes in typed {
            let (more, now) = keys.typed(bytes);
            guest.extend(more);
            quit |= now;
        }
        assert_eq!((guest.as_slice(), quit), (expected, quits));
    }

    #[test]
    fn keys_go_to_the_guest() {
        check(&[b"ls\r\x03"], b"ls\r\x03", false);
    }

    #[test]
    fn the_escape_quits_even_when_typed_slowly() {
        check(&[b"ls\x01x"], b"ls", true);
        check(&[b"\x01", b"x"], b"", true);
    }

    #[test]
    fn an_escaped_escape_reaches_the_guest() {
        check(&[b"\x01\x01"], b"\x01", false);
        check(&[b"\x01b"], b"\x01b", false);
    }
}
