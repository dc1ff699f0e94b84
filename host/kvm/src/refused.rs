//! What the kernel refuses.

use std::io;

/// KVM refuses a step.
#[derive(Debug, thiserror::Error)]
#[error("KVM refuses to {step}: {error}")]
pub struct Refused {
    /// The step, as a verb with its object.
    pub step: &'static str,
    /// What the kernel says.
    pub error: io::Error,
}
