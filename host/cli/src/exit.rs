//! Exit codes: odd ones are the guest's own, even ones wasmsr's, and 128 + n is
//! signal n, as shells say it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use wasmsr_stats::{ControlError, FindError};
use wasmsr_vmm::RunEnd;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const SUCCESS: Code = Code(0);
    /// What was compared differs, as with `diff`, or a test failed.
    pub(crate) const DIFFERENT: Code = Code(1);
    pub(crate) const BAD_INPUT: Code = Code(2);
    const TRIPLE_FAULT: Code = Code(4);
    const HALTED_FOREVER: Code = Code(6);
    const INTERNAL_ERROR: Code = Code(8);
    const STOPPED: Code = Code(10);
    pub(crate) const HOST: Code = Code(12);
    const RESET: Code = Code(14);
    const QUIT: Code = Code(16);
    pub(crate) const UNEXPECTED: Code = Code(18);

    /// The code of a process that ends because of a signal.
    pub(crate) fn signal(number: usize) -> Code {
        Code(128 | number.to_le_bytes()[0])
    }

    /// The code for the way in which a run ended.
    pub(crate) fn of(end: &RunEnd) -> Code {
        match end {
            // It was asked for, so a supervisor has nothing to repair.
            RunEnd::PowerOff(_) | RunEnd::StopRequested { .. } => Code::SUCCESS,
            // As QEMU's isa-debug-exit, of which the low byte is what a
            // parent process sees.
            RunEnd::DebugExit { value, .. } => Code(value.to_le_bytes()[0] << 1 | 1),
            RunEnd::TripleFault(_) => Code::TRIPLE_FAULT,
            RunEnd::HaltedForever(_) => Code::HALTED_FOREVER,
            RunEnd::InternalError(_) | RunEnd::FailEntry { .. } => Code::INTERNAL_ERROR,
            RunEnd::Stopped { .. } => Code::STOPPED,
            RunEnd::HostError(_) => Code::HOST,
            RunEnd::Reset(_) => Code::RESET,
            RunEnd::Quit { .. } => Code::QUIT,
            RunEnd::Signal { number, .. } => Code(128 | number.to_le_bytes()[0]),
        }
    }

    /// As a number.
    pub(crate) fn number(self) -> u8 {
        self.0
    }
}

/// What codes mean. Help, manual pages and documents are made from this table.
pub(crate) const MEANINGS: &[Meaning] = &[
    Meaning {
        codes: Codes::Guests,
        verbs: Verbs::Only(&["run"]),
        text: "the guest's own: (n << 1) | 1, low byte, for the n that it writes to its \
               debug-exit port 0xf4; without --expect",
    },
    Meaning {
        codes: Codes::One(Code::SUCCESS),
        verbs: Verbs::Only(&["run"]),
        text: "the guest powered off, or an operator stopped the run; with --expect, the run \
               ended as expected",
    },
    Meaning {
        codes: Codes::One(Code::SUCCESS),
        verbs: Verbs::AllBut("run"),
        text: "done, and nothing is wrong",
    },
    Meaning {
        codes: Codes::One(Code::DIFFERENT),
        verbs: Verbs::Only(&["swap"]),
        text: "with --wait: the set before was put in charge again",
    },
    Meaning {
        codes: Codes::One(Code::DIFFERENT),
        verbs: Verbs::Only(&["replay", "recording diff", "check"]),
        text: "there are differences",
    },
    Meaning {
        codes: Codes::One(Code::DIFFERENT),
        verbs: Verbs::Only(&["plugin test"]),
        text: "a test failed",
    },
    Meaning {
        codes: Codes::One(Code::DIFFERENT),
        verbs: Verbs::Only(&["horizon"]),
        text: "this host's kernel cannot take over every plugin",
    },
    Meaning {
        codes: Codes::One(Code::DIFFERENT),
        verbs: Verbs::Only(&["plugin bench"]),
        text: "the plugin failed at an access",
    },
    Meaning {
        codes: Codes::One(Code::BAD_INPUT),
        verbs: Verbs::All,
        text: "bad input: arguments, a profile, a plugin or a guest's file; nothing was \
               started",
    },
    Meaning {
        codes: Codes::One(Code::TRIPLE_FAULT),
        verbs: Verbs::Only(&["run"]),
        text: "triple fault",
    },
    Meaning {
        codes: Codes::One(Code::HALTED_FOREVER),
        verbs: Verbs::Only(&["run"]),
        text: "every vCPU is halted and nothing can wake it",
    },
    Meaning {
        codes: Codes::One(Code::INTERNAL_ERROR),
        verbs: Verbs::Only(&["run"]),
        text: "KVM internal error, or the processor refuses to enter the guest",
    },
    Meaning {
        codes: Codes::One(Code::STOPPED),
        verbs: Verbs::Only(&["run"]),
        text: "stopped by a plugin's on-failure or by the policy",
    },
    Meaning {
        codes: Codes::One(Code::HOST),
        verbs: Verbs::Only(&["doctor"]),
        text: "no VM can run on this host",
    },
    Meaning {
        codes: Codes::One(Code::HOST),
        verbs: Verbs::AllBut("doctor"),
        text: "KVM is missing or cannot be used, or a call to the host failed",
    },
    Meaning {
        codes: Codes::One(Code::RESET),
        verbs: Verbs::Only(&["run"]),
        text: "the guest reset, and no further boot was allowed",
    },
    Meaning {
        codes: Codes::One(Code::QUIT),
        verbs: Verbs::Only(&["run"]),
        text: "quit from the console",
    },
    Meaning {
        codes: Codes::One(Code::UNEXPECTED),
        verbs: Verbs::Only(&["run"]),
        text: "the guest powered off or wrote a value to its debug-exit port, or an operator \
               stopped the run, and --expect names another end",
    },
    Meaning {
        codes: Codes::Signals,
        verbs: Verbs::All,
        text: "ended by signal n: 130 for Ctrl-C, 143 for SIGTERM",
    },
];

/// What some codes mean for some verbs.
pub(crate) struct Meaning {
    pub(crate) codes: Codes,
    pub(crate) verbs: Verbs,
    pub(crate) text: &'static str,
}

/// A code, or several with one meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codes {
    One(Code),
    Guests,
    Signals,
}

/// The verbs that can end with them.
pub(crate) enum Verbs {
    All,
    AllBut(&'static str),
    Only(&'static [&'static str]),
}

impl fmt::Display for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codes::One(code) => f.pad(&code.0.to_string()),
            Codes::Guests => f.pad("odd"),
            Codes::Signals => f.pad("128 + n"),
        }
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verbs::All => f.write_str("all"),
            Verbs::AllBut(one) => write!(f, "all but {one}"),
            Verbs::Only(verbs) => f.write_str(&verbs.join(", ")),
        }
    }
}

/// The meanings of a verb's codes. A word such as `plugin` stands for all verbs below
/// it, and an empty text for all verbs.
pub(crate) fn meanings(verb: &str) -> impl Iterator<Item = (Codes, String)> {
    MEANINGS.iter().filter_map(move |Meaning { codes, verbs, text }| {
        let is_below = |other: &&&str| {
            verb.is_empty() || other.strip_prefix(verb).is_some_and(|rest| rest.starts_with(' '))
        };
        let text = match verbs {
            Verbs::All => (*text).to_owned(),
            Verbs::AllBut(one) if verb.is_empty() => format!("{text} (all but {one})"),
            Verbs::AllBut(one) if *one == verb => return None,
            Verbs::AllBut(_) => (*text).to_owned(),
            Verbs::Only(verbs) if verbs.contains(&verb) => (*text).to_owned(),
            Verbs::Only(verbs) => {
                let below: Vec<&str> = verbs.iter().filter(is_below).copied().collect();
                if below.is_empty() {
                    return None;
                }
                format!("{text} ({})", below.join(", "))
            }
        };
        Some((*codes, text))
    })
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.0)
    }
}

/// An error with the exit code that it means.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) error: anyhow::Error,
}

impl From<FindError> for Failure {
    fn from(error: FindError) -> Self {
        match error.is_about_the_name() {
            true => Failure::input(error),
            false => Failure::host(error),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused(_) => Failure::input(error),
            ControlError::Ask(_) => Failure::host(error),
        }
    }
}

impl Failure {
    /// The user's input is wrong; nothing was started.
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: Code::BAD_INPUT, error: error.into() }
    }

    /// The host lacks something, or a call to it failed.
    pub(crate) fn host(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: Code::HOST, error: error.into() }
    }

    /// Standard output takes no more, as on a full disk.
    pub(crate) fn output(error: io::Error) -> Self {
        Failure::host(anyhow::Error::new(error).context("cannot write to standard output"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(verb: &str, expected: &[&str]) {
        let codes: Vec<String> = meanings(verb).map(|(codes, _)| codes.to_string()).collect();
        assert_eq!(codes, expected, "codes of `{verb}`");
    }

    #[test]
    fn each_verb_has_its_own() {
        let all_of_run = ["odd", "0", "2", "4", "6", "8", "10", "12", "14", "16", "18", "128 + n"];
        check("run", &all_of_run);
        check("replay", &["0", "1", "2", "12", "128 + n"]);
        check("plugin test", &["0", "1", "2", "12", "128 + n"]);
        check("check", &["0", "1", "2", "12", "128 + n"]);
        check("doctor", &["0", "2", "12", "128 + n"]);
        let of_doctor = |(_, text): (Codes, String)| text == "no VM can run on this host";
        assert!(meanings("doctor").any(of_doctor) && !meanings("check").any(of_doctor));
    }

    #[test]
    fn a_group_says_which_verb_it_is() {
        let of_group = |(_, text): (Codes, String)| text == "a test failed (plugin test)";
        assert!(meanings("plugin").any(of_group) && meanings("").any(of_group));
        assert!(!meanings("plugin test").any(of_group));
    }
}
