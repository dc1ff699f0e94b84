//! One line of `top`: an MSR or a plugin.

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// In hexadecimal; `None` for a plugin's line, and for the sum of the rarest MSRs.
    pub(crate) msr: Option<String>,
    pub(crate) name: Option<String>,
    /// `None` for the policy.
    pub(crate) plugin: Option<String>,
    /// Accesses per second since the update before.
    pub(crate) rate: f64,
    pub(crate) total: u64,
    /// The share of all accesses since the update before, in percent.
    pub(crate) share: f64,
    pub(crate) mean: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) faults: u64,
    pub(crate) failures: u64,
    pub(crate) fuel: Option<u64>,
}
