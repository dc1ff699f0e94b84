//! `run --expect`: which end of a run counts as success.

use std::str::FromStr;

use wasmsr_vmm::RunEnd;

use crate::exit::Code;

/// An end that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The guest says that all is well: it powers off, or writes 0 to its debug-exit
    /// port.
    Success,
    PowerOff,
    Reset,
    /// The guest writes this value to its debug-exit port.
    Value(u32),
}

impl Expected {
    /// The exit code of a run that ended so. An end that is an error in itself keeps
    /// its code.
    pub(crate) fn code(expected: &[Expected], end: &RunEnd) -> Code {
        let own = Code::of(end);
        let is_met = || expected.iter().any(|expected| expected.is_met_by(end));
        match end {
            _ if expected.is_empty() => own,
            _ if is_met() => Code::SUCCESS,
            RunEnd::PowerOff(_) | RunEnd::DebugExit { .. } | RunEnd::StopRequested { .. } => {
                Code::UNEXPECTED
            }
            _ => own,
        }
    }

    fn is_met_by(self, end: &RunEnd) -> bool {
        match (self, end) {
            (Expected::Success | Expected::PowerOff, RunEnd::PowerOff(_))
            | (Expected::Success, RunEnd::DebugExit { value: 0, .. })
            | (Expected::Reset, RunEnd::Reset(_)) => true,
            (Expected::Value(expected), RunEnd::DebugExit { value, .. }) => expected == *value,
            _ => false,
        }
    }
}

impl FromStr for Expected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = || match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        match text {
            "success" => Ok(Expected::Success),
            "power-off" => Ok(Expected::PowerOff),
            "reset" => Ok(Expected::Reset),
            _ if text.contains('+') => Err(UNKNOWN.to_owned()),
            _ => number().map(Expected::Value).map_err(|_| UNKNOWN.to_owned()),
        }
    }
}

const UNKNOWN: &str = "expected `success`, `power-off`, `reset`, or a value of at most 32 bits for \
                       the debug-exit port";

#[cfg(test)]
mod tests {
    use wasmsr_interface::VcpuId;
    use wasmsr_vmm::{At, ResetBy};

    use super::*;

    const AT: At = At { vcpu: VcpuId(0), rip: None };

    #[track_caller]
    fn check(expected: &str, end: &RunEnd, code: u8) {
        let words = expected.split(',').filter(|word| !word.is_empty());
        let expected: Vec<Expected> = words.map(|word| word.parse().unwrap()).collect();
        assert_eq!(Expected::code(&expected, end).number(), code, "{expected:?}, {end}");
    }

    #[test]
    fn an_expected_end_is_0_and_another_one_is_not() {
        let value = |value| RunEnd::DebugExit { at: AT, value };
        check("success", &value(0), 0);
        check("success", &RunEnd::PowerOff(AT), 0);
        check("success", &value(1), 18);
        check("0", &value(0), 0);
        check("0x2b", &value(43), 0);
        check("43,44", &value(44), 0);
        // The low byte of the usual code does not tell these from each other.
        check("0", &value(0x100), 18);
        check("0", &RunEnd::PowerOff(AT), 18);
        check("power-off", &RunEnd::PowerOff(AT), 0);
        check("power-off", &value(0), 18);
        check("reset", &RunEnd::Reset(ResetBy::Guest(AT)), 0);
        check("", &value(0), 1);
    }

    #[test]
    fn a_stop_is_no_failure_and_no_expected_end() {
        check("", &RunEnd::StopRequested { at: None }, 0);
        check("success", &RunEnd::StopRequested { at: None }, 18);
        check("power-off", &RunEnd::StopRequested { at: None }, 18);
    }

    #[test]
    fn an_error_keeps_its_code() {
        check("success", &RunEnd::TripleFault(AT), 4);
        check("success", &RunEnd::Reset(ResetBy::Guest(AT)), 14);
        check("0", &RunEnd::Stopped { at: AT, text: "no".into() }, 10);
        check("0", &RunEnd::Signal { number: 15, at: None }, 143);
        check("0", &RunEnd::Quit { at: None }, 16);
        check("0", &RunEnd::HostError("no".to_owned()), 12);
    }

    #[test]
    fn other_words_are_refused() {
        for word in ["", "ok", "-1", "+1", "0x+1", "0x100000000", "success "] {
            assert!(word.parse::<Expected>().is_err(), "{word:?}");
        }
    }
}
