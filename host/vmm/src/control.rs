//! How a running VM is reached from outside: signals, console input, quit, and what an
//! operator asks for.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::end::{At, RunEnd};
use crate::input::InputQueue;

/// The two ends of the channel to a VM. They outlive the VM: one channel serves all
/// boots of a guest, and what arrives between two boots reaches the next one.
pub fn control() -> (Control, Events) {
    let (sender, receiver) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    let control = Control { sender: sender.clone(), shared: Arc::clone(&shared) };
    (control, Events { receiver, sender, shared })
}

/// The outer end, for threads that wait for signals, for the terminal or for an operator.
/// No call waits for the VM, but for [`Control::input`] and [`Control::wait_until_paused`].
#[derive(Debug, Clone)]
pub struct Control {
    sender: Sender<Event>,
    shared: Arc<Shared>,
}

/// What both ends see.
#[derive(Debug, Default)]
struct Shared {
    input: Arc<InputQueue>,
    pause: Mutex<Pause>,
    paused: Condvar,
}

#[derive(Debug, Default)]
struct Pause {
    /// What was asked for last. It outlives a boot: a paused VM that is reset stays paused.
    asked: bool,
    /// Whether no vCPU is in the guest, and none gets there.
    reached: bool,
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

    /// Ends the run because an operator asks for it.
    pub fn stop(&self) {
        self.send(Event::Stop);
    }

    /// Resets the machine, as its reset line does: this boot ends with
    /// [`RunEnd::Reset`], and another one may follow.
    pub fn reset(&self) {
        self.send(Event::Reset);
    }

    /// Presses the power button once. What comes of it is up to the guest.
    pub fn power_button(&self) {
        self.send(Event::PowerButton);
    }

    /// Gets every vCPU out of the guest, with no access half done, until
    /// [`Control::resume`]. The guest's clocks go on. A pause outlives a reset: the next
    /// boot then waits before its first instruction.
    pub fn pause(&self) {
        self.ask(Event::Pause, true);
    }

    /// Ends a pause. Without one, nothing happens.
    pub fn resume(&self) {
        self.ask(Event::Resume, false);
    }

    /// Whether a pause has been reached: no vCPU is in the guest, and none gets there.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.pause().reached
    }

    /// Waits until [`Control::is_paused`], for `patience` at most, and says whether it is.
    /// A vCPU whose output is not read, or whose plugin takes its time, comes out when
    /// that is over.
    #[must_use]
    pub fn wait_until_paused(&self, patience: Duration) -> bool {
        let pause = self.shared.pause();
        let waited = self.shared.paused.wait_timeout_while(pause, patience, |pause| !pause.reached);
        waited.unwrap_or_else(PoisonError::into_inner).0.reached
    }

    /// Types `bytes` on the guest's serial console. Blocks while the guest does not
    /// read; `false` once there is no VM and no further one will come.
    #[must_use]
    pub fn input(&self, bytes: &[u8]) -> bool {
        bytes.chunks(256).all(|chunk| {
            let taken = self.shared.input.put(chunk);
            self.send(Event::Input);
            taken
        })
    }

    fn ask(&self, event: Event, pause: bool) {
        // Under the lock, so that the last event and the last wish are of one call.
        let mut asked = self.shared.pause();
        asked.asked = pause;
        self.send(event);
    }

    fn send(&self, event: Event) {
        // Without a receiver there is no VM to send it to.
        let _ = self.sender.send(event);
    }
}

impl Shared {
    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The inner end, which [`Vm::run`](crate::Vm::run) listens to.
#[derive(Debug)]
pub struct Events {
    receiver: Receiver<Event>,
    sender: Sender<Event>,
    shared: Arc<Shared>,
}

impl Events {
    /// Waits between two boots, until `duration` is over or a reset is asked for. `Some`
    /// if the run is to end instead.
    pub fn rest(&self, duration: Duration) -> Option<RunEnd> {
        let until = Instant::now() + duration;
        loop {
            match self.next(until) {
                Event::Tick | Event::Reset => return None,
                Event::Signal(number) => return Some(RunEnd::Signal { number, at: None }),
                Event::Quit => return Some(RunEnd::Quit { at: None }),
                Event::Stop => return Some(RunEnd::StopRequested { at: None }),
                // The next boot sees for itself whether it is to pause and whether input
                // waits. The rest is of a boot that is over.
                _ => {}
            }
        }
    }

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
        Arc::clone(&self.shared.input)
    }

    /// Whether a VM that starts now is to pause before its first instruction.
    pub(crate) fn begins_paused(&self) -> bool {
        self.shared.pause().asked
    }

    /// For [`Control::is_paused`].
    pub(crate) fn note_paused(&self, reached: bool) {
        self.shared.pause().reached = reached;
        self.shared.paused.notify_all();
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.input.close();
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
    /// Every vCPU stays out of the guest, as it was told to.
    AllParked,
    /// From [`Control::signal`].
    Signal(i32),
    /// From [`Control::quit`].
    Quit,
    /// From [`Control::stop`].
    Stop,
    /// From [`Control::reset`].
    Reset,
    /// From [`Control::pause`].
    Pause,
    /// From [`Control::resume`].
    Resume,
    /// From [`Control::power_button`].
    PowerButton,
    /// Console input waits.
    Input,
    /// A vCPU has a new time to be woken at, or its time has come.
    Alarm,
    /// Time has passed.
    Tick,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// The end that a rest comes to if this is asked for in it.
    fn rest(ask: impl FnOnce(&Control)) -> Option<RunEnd> {
        let (control, events) = control();
        ask(&control);
        events.rest(LONG)
    }

    #[test]
    fn a_rest_between_boots_ends_at_once_with_the_run() {
        assert_eq!(
            rest(|control| control.signal(15)),
            Some(RunEnd::Signal { number: 15, at: None })
        );
        assert_eq!(rest(Control::quit), Some(RunEnd::Quit { at: None }));
        let stopped = |control: &Control| {
            control.pause();
            control.power_button();
            control.stop();
        };
        assert_eq!(rest(stopped), Some(RunEnd::StopRequested { at: None }));
        assert_eq!(rest(Control::reset), None, "boots at once");
        assert_eq!(control().1.rest(Duration::from_millis(1)), None);
    }

    #[test]
    fn the_last_wish_counts_for_the_next_boot() {
        let (control, events) = control();
        assert!(!events.begins_paused());
        control.pause();
        control.pause();
        assert!(events.begins_paused() && !control.is_paused(), "asked for, not reached");
        assert!(!control.wait_until_paused(Duration::ZERO));
        events.note_paused(true);
        assert!(control.is_paused() && control.wait_until_paused(LONG));
        control.resume();
        assert!(!events.begins_paused());
    }
}
