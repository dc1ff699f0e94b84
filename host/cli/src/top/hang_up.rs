//! Notices that the terminal was closed, which the library that reads keys does not: it
//! reads nothing from it, again and again.

use std::io::{self, Stdin};
use std::process;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::exit::Code;

/// Waits at most `patience` for keys, and says whether there can be none any more.
pub(super) fn is_hung_up(patience: Duration) -> io::Result<bool> {
    wait_for(&io::stdin(), PollFlags::IN, Some(patience))
}

/// Ends the process some time after the terminal was closed: another thread may be in
/// that library at that moment.
pub(super) fn end_if_stuck(code: Code) -> io::Result<()> {
    /// For a thread that is not stuck.
    const GRACE: Duration = Duration::from_secs(2);
    thread::Builder::new().name("hang-up".into()).spawn(move || {
        while !wait_for(&io::stdin(), PollFlags::empty(), None).unwrap_or(true) {}
        thread::sleep(GRACE);
        process::exit(code.number().into());
    })?;
    Ok(())
}

/// Waits for `events` or a hang-up; whether it is the latter.
fn wait_for(terminal: &Stdin, events: PollFlags, most: Option<Duration>) -> io::Result<bool> {
    let most = most.and_then(|most| Timespec::try_from(most).ok());
    let mut terminal = [PollFd::new(terminal, events)];
    match poll(&mut terminal, most.as_ref()) {
        Err(Errno::INTR) => return Ok(false),
        polled => polled?,
    };
    let closed = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(terminal.iter().any(|terminal| terminal.revents().intersects(closed)))
}
