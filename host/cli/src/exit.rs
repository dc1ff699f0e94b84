//! Exit codes: odd ones are the guest's own, even ones wasmsr's, and 128 + n is
//! signal n, as shells say it.

use std::process::ExitCode;

use wasmsr_vmm::RunEnd;

/// What the process ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const SUCCESS: Code = Code(0);
    /// What was compared differs, as `diff` says it, or a test failed.
    pub(crate) const DIFFERENT: Code = Code(1);
    pub(crate) const BAD_INPUT: Code = Code(2);
    pub(crate) const HOST: Code = Code(12);

    /// The code of a process that ends because of a signal.
    pub(crate) fn signal(number: usize) -> Code {
        Code(128 | number.to_le_bytes()[0])
    }

    /// The code for the way in which a run ended.
    pub(crate) fn of(end: &RunEnd) -> Code {
        Code(match end {
            RunEnd::PowerOff(_) => 0,
            // As QEMU's isa-debug-exit, of which the low byte is what a
            // parent process sees.
            RunEnd::DebugExit { value, .. } => value.to_le_bytes()[0] << 1 | 1,
            RunEnd::TripleFault(_) => 4,
            RunEnd::HaltedForever(_) => 6,
            RunEnd::InternalError(_) | RunEnd::FailEntry { .. } => 8,
            RunEnd::Stopped { .. } => 10,
            RunEnd::HostError(_) => 12,
            RunEnd::Reset(_) => 14,
            RunEnd::Quit { .. } => 16,
            RunEnd::Signal { number, .. } => 128 | number.to_le_bytes()[0],
        })
    }
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

impl Failure {
    /// Something that the user gave is wrong; nothing was started.
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: Code::BAD_INPUT, error: error.into() }
    }

    /// The host cannot do it, or failed while it did.
    pub(crate) fn host(error: impl Into<anyhow::Error>) -> Self {
        Failure { code: Code::HOST, error: error.into() }
    }
}
