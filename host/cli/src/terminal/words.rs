//! What tables, pages and JSON call the end of an access, beside the words of
//! [`OutcomeKind`](wasmsr_interface::OutcomeKind).

/// The plugin trapped or overran a limit, whatever the outcome.
pub(crate) const FAILED: &str = "failed";

/// The plugin passed the access on, to the next plugin or to the policy.
pub(crate) const PASS: &str = "pass";
