//! How a running VM is reached from outside: signals, console input, quit.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::end::{At, RunEnd};
use crate::input::InputQueue;

/// The two ends of the channel to a VM. They outlive the VM: one channel serves all
/// boots of a guest, and what arrives between two boots reaches the next one.
pub fn control() -> (Control, Events) {
    let (sender, receiver) = mpsc::channel();
    let input = Arc::new(InputQueue::default());
    let control = Control { sender: sender.clone(), input: Arc::clone(&input) };
    (control, Events { receiver, sender, input })
}

/// The outer end, for threads that wait for signals or for the terminal.
#[derive(Debug, Clone)]
pub struct Control {
    sender: Sender<Event>,
    input: Arc<InputQueue>,
}

impl Control {
    /// Ends the run because of a signal.
    pub fn signal(&self, number: i32) {
        self.send(Event::Signal(number));
    }

    /// Ends the run because the console's user asks for it.
    pub fn quit(&self) {
        self.send(Event::Quit);
    }

    /// Types `bytes` on the guest's serial console. Blocks while the guest does not
    /// read; `false` once there is no VM and no further one will come.
    #[must_use]
    pub fn input(&self, bytes: &[u8]) -> bool {
        bytes.chunks(256).all(|chunk| {
            let taken = self.input.put(chunk);
            self.send(Event::Input);
            taken
        })
    }

    fn send(&self, event: Event) {
        // Without a receiver there is no VM to send it to.
        let _ = self.sender.send(event);
    }
}

/// The inner end, which [`Vm::run`](crate::Vm::run) listens to.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    sender: Sender<Event>,
    input: Arc<InputQueue>,
}

impl Events {
    /// The next event, or [`Event::Tick`] at `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Event {
        let patience = deadline.saturating_duration_since(Instant::now());
        // Time goes on even when events arrive faster than they are served.
        if patience == Duration::ZERO {
            return Event::Tick;
        }
        match self.receiver.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Event::Tick,
        }
    }

    /// For the VM's own threads.
    pub(crate) fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    pub(crate) fn input(&self) -> Arc<InputQueue> {
        Arc::clone(&self.input)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.input.close();
    }
}

/// What can happen to a running VM.
#[derive(Debug)]
pub(crate) enum Event {
    /// A vCPU's thread has ended, at this place; with the end of the run, unless it
    /// was told to stop.
    Left(At, Option<RunEnd>),
    /// No vCPU can ever run again.
    AllHalted(At),
    /// From [`Control::signal`].
    Signal(i32),
    /// From [`Control::quit`].
    Quit,
    /// Console input waits.
    Input,
    /// A vCPU has a new time to be woken at, or its time has come.
    Alarm,
    /// Time has passed.
    Tick,
}
