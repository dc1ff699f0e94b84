//! The life of one run as a pure function: from a state and an event to the next state
//! and an action.

use std::time::Duration;

use wasmsr_interface::VcpuId;

use crate::control::Event;
use crate::end::{At, ResetBy, RunEnd};

/// The state of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// This many vCPU threads run.
    Running { threads: usize },
    /// They are to stay out of the guest, and have not all got there.
    Pausing { threads: usize },
    /// They stay out of the guest.
    Paused { threads: usize },
    /// The end is known, and this many vCPU threads have yet to leave.
    Stopping { end: RunEnd, threads: usize },
    /// All have left.
    Ended(RunEnd),
}

/// What is to be done after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// See whether any vCPU can still run, and whether input still waits.
    LookAround,
    /// Get every vCPU out of the guest for good.
    StopVcpus,
    /// Get every vCPU out of the guest for a while, and see whether all are.
    PauseVcpus,
    /// Let every vCPU into the guest again, and hand on what has waited.
    ResumeVcpus,
    /// Get each vCPU out of the guest if its time has come.
    RingAlarms,
    /// Hand waiting input to the console.
    FeedConsole,
    /// Press the power button.
    PressPowerButton,
}

impl RunState {
    /// How long to wait for an event before [`Event::Tick`].
    pub(crate) fn tick(&self) -> Duration {
        match self {
            RunState::Running { .. } | RunState::Paused { .. } => Duration::from_millis(250),
            // A kick that arrives between two entries is lost, so it is repeated
            // soon; less often where a plugin that it interrupts must still answer.
            RunState::Pausing { .. } => Duration::from_millis(5),
            RunState::Stopping { .. } | RunState::Ended(_) => Duration::from_millis(1),
        }
    }

    /// Whether times at which vCPUs are to be woken matter.
    pub(crate) fn rings_alarms(&self) -> bool {
        matches!(self, RunState::Running { .. })
    }

    /// The state after `event`, and what is to be done about it.
    pub(crate) fn step(self, event: Event) -> (RunState, Action) {
        use RunState::{Paused, Pausing, Running, Stopping};
        let end = end_of(&event);
        match (self, event, end) {
            // An end is one whether the run is paused or not.
            (
                Running { threads } | Pausing { threads } | Paused { threads },
                Event::Left(..),
                Some(end),
            ) => RunState::stopping(end, threads.saturating_sub(1)),
            (Running { threads } | Pausing { threads } | Paused { threads }, _, Some(end)) => {
                RunState::stopping(end, threads)
            }

            (Running { threads }, Event::Pause, _) | (Pausing { threads }, Event::Tick, _) => {
                (Pausing { threads }, Action::PauseVcpus)
            }
            (Pausing { threads }, Event::AllParked, _) => (Paused { threads }, Action::Nothing),
            (Pausing { threads } | Paused { threads }, Event::Resume, _) => {
                (Running { threads }, Action::ResumeVcpus)
            }

            (state @ Running { .. }, Event::Alarm, _) => (state, Action::RingAlarms),
            (state @ Running { .. }, Event::Tick, _) => (state, Action::LookAround),
            (state @ Running { .. }, Event::Input, _) => (state, Action::FeedConsole),
            (state @ (Running { .. } | Pausing { .. } | Paused { .. }), Event::PowerButton, _) => {
                (state, Action::PressPowerButton)
            }

            (Stopping { end, threads }, Event::Left(at, _), _) => {
                RunState::stopping(placed(end, at), threads.saturating_sub(1))
            }
            // A reset would start the guest anew, so what ends it comes first.
            (
                Stopping { end: RunEnd::Reset(_), threads },
                Event::Signal(_) | Event::Quit | Event::Stop,
                Some(end),
            ) => RunState::stopping(end, threads),
            (state @ Stopping { .. }, Event::Tick, _) => (state, Action::StopVcpus),

            // The first end counts; a paused VM lets things wait; and a wish that is
            // fulfilled needs nothing.
            (state, ..) => (state, Action::Nothing),
        }
    }

    fn stopping(end: RunEnd, threads: usize) -> (RunState, Action) {
        match threads {
            0 => (RunState::Ended(end), Action::Nothing),
            _ => (RunState::Stopping { end, threads }, Action::StopVcpus),
        }
    }
}

/// The end that `event` is for a run that has none yet.
fn end_of(event: &Event) -> Option<RunEnd> {
    match event {
        Event::Left(at, end) => Some(
            end.clone()
                .unwrap_or_else(|| RunEnd::HostError(format!("{} left without a reason", at.vcpu))),
        ),
        Event::AllHalted(at) => Some(RunEnd::HaltedForever(*at)),
        Event::Signal(number) => Some(RunEnd::Signal { number: *number, at: None }),
        Event::Quit => Some(RunEnd::Quit { at: None }),
        Event::Stop => Some(RunEnd::StopRequested { at: None }),
        Event::Reset => Some(RunEnd::Reset(ResetBy::Operator(None))),
        _ => None,
    }
}

/// The end with its place: if it came from outside, where the first vCPU left.
fn placed(end: RunEnd, left: At) -> RunEnd {
    let first = (left.vcpu == VcpuId(0)).then_some(left);
    match end {
        RunEnd::Signal { number, at } => RunEnd::Signal { number, at: at.or(first) },
        RunEnd::Quit { at } => RunEnd::Quit { at: at.or(first) },
        RunEnd::StopRequested { at } => RunEnd::StopRequested { at: at.or(first) },
        RunEnd::Reset(ResetBy::Operator(at)) => RunEnd::Reset(ResetBy::Operator(at.or(first))),
        end => end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At = At { vcpu: VcpuId(0), rip: Some(0x1000) };

    fn left(id: u32, end: Option<RunEnd>) -> Event {
        Event::Left(At { vcpu: VcpuId(id), rip: Some(0x1000) }, end)
    }

    /// The end after these events, which must be one.
    #[track_caller]
    fn check(threads: usize, events: Vec<Event>, expected: &RunEnd) {
        let state = events
            .into_iter()
            .fold(RunState::Running { threads }, |state, event| state.step(event).0);
        assert_eq!(&state, &RunState::Ended(expected.clone()));
    }

    #[test]
    fn one_vcpu_ends_the_run() {
        check(1, vec![left(0, Some(RunEnd::PowerOff(AT)))], &RunEnd::PowerOff(AT));
    }

    #[test]
    fn the_first_end_counts_and_every_thread_is_waited_for() {
        let (state, action) =
            RunState::Running { threads: 3 }.step(left(1, Some(RunEnd::TripleFault(AT))));
        assert_eq!(state, RunState::Stopping { end: RunEnd::TripleFault(AT), threads: 2 });
        assert_eq!(action, Action::StopVcpus);
        let events = vec![
            left(1, Some(RunEnd::TripleFault(AT))),
            left(0, Some(RunEnd::PowerOff(AT))),
            Event::Signal(2),
            left(2, None),
        ];
        check(3, events, &RunEnd::TripleFault(AT));
    }

    #[test]
    fn a_signal_stops_every_vcpu() {
        let (state, action) = RunState::Running { threads: 2 }.step(Event::Signal(15));
        assert_eq!(
            (&state, action),
            (
                &RunState::Stopping { end: RunEnd::Signal { number: 15, at: None }, threads: 2 },
                Action::StopVcpus
            )
        );
        assert_eq!(state.step(Event::Tick).1, Action::StopVcpus, "a kick may be lost");
        check(
            2,
            vec![Event::Signal(15), left(0, None), left(1, None)],
            &RunEnd::Signal { number: 15, at: Some(AT) },
        );
    }

    #[test]
    fn a_signal_beats_a_reset() {
        let reset = || left(0, Some(RunEnd::Reset(ResetBy::Guest(AT))));
        let signal = RunEnd::Signal { number: 2, at: None };
        check(2, vec![reset(), Event::Signal(2), left(1, None)], &signal);
        check(2, vec![reset(), Event::Quit, left(1, None)], &RunEnd::Quit { at: None });
        check(2, vec![reset(), left(1, None)], &RunEnd::Reset(ResetBy::Guest(AT)));
    }

    #[test]
    fn halts_are_looked_for_while_running_only() {
        let running = RunState::Running { threads: 1 };
        assert_eq!(running.step(Event::Tick).1, Action::LookAround);
        check(1, vec![Event::AllHalted(AT), left(0, None)], &RunEnd::HaltedForever(AT));
    }

    #[test]
    fn alarms_ring_while_running_only() {
        let (state, action) = RunState::Running { threads: 1 }.step(Event::Alarm);
        assert_eq!((&state, action), (&RunState::Running { threads: 1 }, Action::RingAlarms));
        let (state, _) = state.step(Event::Signal(15));
        assert_eq!(state.step(Event::Alarm).1, Action::Nothing);
    }

    /// What these events make of a running VM with two vCPUs.
    #[track_caller]
    fn after(events: Vec<Event>, expected: &RunState, expected_action: Action) {
        let begin = (RunState::Running { threads: 2 }, Action::Nothing);
        let (state, action) = events.into_iter().fold(begin, |(state, _), event| state.step(event));
        assert_eq!((&state, action), (expected, expected_action));
    }

    #[test]
    fn a_pause_is_reached_when_every_vcpu_is_out() {
        let pausing = RunState::Pausing { threads: 2 };
        after(vec![Event::Pause], &pausing, Action::PauseVcpus);
        after(vec![Event::Pause, Event::Tick], &pausing, Action::PauseVcpus);
        let paused = RunState::Paused { threads: 2 };
        after(vec![Event::Pause, Event::AllParked], &paused, Action::Nothing);
        assert!(pausing.tick() < Duration::from_millis(10) && paused.tick() > pausing.tick());
    }

    #[test]
    fn twice_is_as_once() {
        let pause = || vec![Event::Pause, Event::AllParked, Event::Pause];
        after(pause(), &RunState::Paused { threads: 2 }, Action::Nothing);
        let running = RunState::Running { threads: 2 };
        let resume = || pause().into_iter().chain([Event::Resume]).collect::<Vec<_>>();
        after(resume(), &running, Action::ResumeVcpus);
        after(resume().into_iter().chain([Event::Resume]).collect(), &running, Action::Nothing);
        after(vec![Event::Resume], &running, Action::Nothing);
        after(vec![Event::Pause, Event::Resume, Event::AllParked], &running, Action::Nothing);
    }

    #[test]
    fn a_paused_vm_lets_things_wait_but_the_power_button() {
        let paused = RunState::Paused { threads: 2 };
        for event in [Event::Input, Event::Alarm, Event::Tick] {
            after(vec![Event::Pause, Event::AllParked, event], &paused, Action::Nothing);
        }
        let pressed = vec![Event::Pause, Event::AllParked, Event::PowerButton];
        after(pressed, &paused, Action::PressPowerButton);
        assert!(!paused.rings_alarms());
    }

    #[test]
    fn a_paused_run_can_be_ended() {
        let first = At { vcpu: VcpuId(0), rip: Some(0x1000) };
        for (event, end) in [
            (Event::Signal(15), RunEnd::Signal { number: 15, at: Some(first) }),
            (Event::Quit, RunEnd::Quit { at: Some(first) }),
            (Event::Stop, RunEnd::StopRequested { at: Some(first) }),
            (Event::Reset, RunEnd::Reset(ResetBy::Operator(Some(first)))),
        ] {
            let pause = [Event::Pause, Event::AllParked];
            let leave = [left(1, None), left(0, None)];
            check(2, pause.into_iter().chain([event]).chain(leave).collect(), &end);
        }
        // A vCPU on its way out may meet an end.
        let end = || left(1, Some(RunEnd::PowerOff(AT)));
        check(2, vec![Event::Pause, end(), left(0, None)], &RunEnd::PowerOff(AT));
    }

    #[test]
    fn a_stop_beats_a_reset_and_nothing_beats_a_stop() {
        let stopped = RunEnd::StopRequested { at: None };
        check(2, vec![Event::Reset, Event::Stop, left(1, None), left(1, None)], &stopped);
        let reset = RunEnd::Reset(ResetBy::Operator(None));
        check(2, vec![Event::Reset, Event::Pause, left(1, None), left(1, None)], &reset);
        check(2, vec![Event::Stop, Event::Reset, left(1, None), left(1, None)], &stopped);
        check(2, vec![Event::Stop, Event::Signal(2), left(1, None), left(1, None)], &stopped);
    }

    #[test]
    fn input_changes_nothing() {
        let (state, action) = RunState::Running { threads: 1 }.step(Event::Input);
        assert_eq!((state, action), (RunState::Running { threads: 1 }, Action::FeedConsole));
    }

    #[test]
    fn a_thread_that_leaves_unasked_is_an_error() {
        let (state, _) = RunState::Running { threads: 1 }.step(left(0, None));
        assert!(matches!(state, RunState::Ended(RunEnd::HostError(_))), "{state:?}");
    }
}
