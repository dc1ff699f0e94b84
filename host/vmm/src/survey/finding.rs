//! One point of the survey and its verdict.

/// One point of the survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// Whether it is fit.
    pub verdict: Fitness,
    /// What was found.
    pub found: String,
    /// What to do if it is not fit.
    pub remedy: Option<String>,
}

/// Whether a point is fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fitness {
    /// As wasmsr needs it.
    Good,
    /// wasmsr runs, but not all of it works.
    Limited,
    /// Nothing runs.
    Unfit,
}

impl Finding {
    /// A point that is fit.
    pub fn good(what: &'static str, found: impl Into<String>) -> Self {
        Finding { what, verdict: Fitness::Good, found: found.into(), remedy: None }
    }

    /// A point that keeps a part from working.
    pub fn limited(
        what: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Finding { what, verdict: Fitness::Limited, found: found.into(), remedy }
    }

    /// A point that keeps everything from running.
    pub fn unfit(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Finding { verdict: Fitness::Unfit, ..Self::limited(what, found, remedy) }
    }
}
