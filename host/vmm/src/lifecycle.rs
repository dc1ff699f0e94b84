//! The life of one run as a pure function: from a state and an event to the next state
//! and an action.

use std::time::Duration;

use wasmsr_interface::VcpuId;

use crate::control::Event;
use crate::end::{At, RunEnd};

/// The state of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// This many vCPU threads run.
    Running { threads: usize },
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
    /// Get each vCPU out of the guest if its time has come.
    RingAlarms,
    /// Hand waiting input to the console.
    FeedConsole,
}

impl RunState {
    /// How long to wait for an event before [`Event::Tick`].
    pub(crate) fn tick(&self) -> Duration {
        match self {
            RunState::Running { .. } => Duration::from_millis(250),
            // A kick that arrives between two entries is lost, so it is repeated
            // soon.
            RunState::Stopping { .. } | RunState::Ended(_) => Duration::from_millis(1),
        }
    }

    /// The state after `event`, and what is to be done about it.
    pub(crate) fn step(self, event: Event) -> (RunState, Action) {
        match (self, event) {
            (state, Event::Input) => (state, Action::FeedConsole),
            (state @ RunState::Running { .. }, Event::Alarm) => (state, Action::RingAlarms),
            (RunState::Running { threads }, Event::Left(at, end)) => {
                let end = end.unwrap_or_else(|| {
                    RunEnd::HostError(format!("{} left without a reason", at.vcpu))
                });
                RunState::stopping(end, threads.saturating_sub(1))
            }
            (RunState::Running { threads }, Event::AllHalted(at)) => {
                RunState::stopping(RunEnd::HaltedForever(at), threads)
            }
            (RunState::Running { threads }, Event::Signal(number)) => {
                RunState::stopping(RunEnd::Signal { number, at: None }, threads)
            }
            (RunState::Running { threads }, Event::Quit) => {
                RunState::stopping(RunEnd::Quit { at: None }, threads)
            }
            (state @ RunState::Running { .. }, Event::Tick) => (state, Action::LookAround),

            (RunState::Stopping { end, threads }, Event::Left(at, _)) => {
                RunState::stopping(placed(end, at), threads.saturating_sub(1))
            }
            // A reset would start the guest anew, so what ends it comes first.
            (RunState::Stopping { end: RunEnd::Reset(_), threads }, Event::Signal(number)) => {
                RunState::stopping(RunEnd::Signal { number, at: None }, threads)
            }
            (RunState::Stopping { end: RunEnd::Reset(_), threads }, Event::Quit) => {
                RunState::stopping(RunEnd::Quit { at: None }, threads)
            }
            (state @ RunState::Stopping { .. }, Event::Tick) => (state, Action::StopVcpus),

            // The first end counts.
            (state @ (RunState::Stopping { .. } | RunState::Ended(_)), _) => {
                (state, Action::Nothing)
            }
        }
    }

    fn stopping(end: RunEnd, threads: usize) -> (RunState, Action) {
        match threads {
            0 => (RunState::Ended(end), Action::Nothing),
            _ => (RunState::Stopping { end, threads }, Action::StopVcpus),
        }
    }
}

/// The end with its place: if it came from outside, where the first vCPU left.
fn placed(end: RunEnd, left: At) -> RunEnd {
    let first = (left.vcpu == VcpuId(0)).then_some(left);
    match end {
        RunEnd::Signal { number, at } => RunEnd::Signal { number, at: at.or(first) },
        RunEnd::Quit { at } => RunEnd::Quit { at: at.or(first) },
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
        let reset = || left(0, Some(RunEnd::Reset(AT)));
        let signal = RunEnd::Signal { number: 2, at: None };
        check(2, vec![reset(), Event::Signal(2), left(1, None)], &signal);
        check(2, vec![reset(), Event::Quit, left(1, None)], &RunEnd::Quit { at: None });
        check(2, vec![reset(), left(1, None)], &RunEnd::Reset(AT));
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
