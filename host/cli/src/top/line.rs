//! What `top` knows of one MSR or plugin.

/// A line of the table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// In hexadecimal; `None` for a plugin's line, and for the rarest.
    pub(crate) msr: Option<String>,
    pub(crate) name: Option<String>,
    /// `None` for the policy.
    pub(crate) plugin: Option<String>,
    /// Accesses a second since the look before.
    pub(crate) rate: f64,
    pub(crate) total: u64,
    /// Of all accesses since the look before, in percent.
    pub(crate) share: f64,
    pub(crate) mean: Option<u64>,
    pub(crate) p99: Option<u64>,
    pub(crate) faults: u64,
    pub(crate) failures: u64,
    pub(crate) fuel: Option<u64>,
}
