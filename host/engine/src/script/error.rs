//! Why a script cannot be run to its end.

/// Why a trace cannot be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No line `---` between profile and steps.
    #[error("it has no line `---` between its profile and its steps; add one")]
    NoSteps,
    /// The profile.
    #[error("its profile is wrong: {0}")]
    Profile(String),
    /// A plugin of the profile.
    #[error("its plugins do not load: {0}")]
    Load(String),
    /// No step with an answer.
    #[error(
        "it asks for no answer, so it would pass with any plugin; add a step such as `r 0x10a -> ?`, for which `--bless` writes what comes"
    )]
    NothingAsked,
    /// A step.
    #[error("line {line}, `{text}`: {problem}")]
    Step {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it, or went wrong.
        problem: String,
    },
}
