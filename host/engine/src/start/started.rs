//! The live plugins of one boot.

use crate::dispatch::{Reports, VcpuDispatch};
use crate::metrics::Metrics;
use crate::shadow::ShadowTallies;

/// The live plugins of one boot.
pub struct Started {
    /// What answers each vCPU, in order; each goes to its vCPU's thread.
    pub vcpus: Vec<VcpuDispatch>,
    /// What they count.
    pub metrics: Metrics,
    /// What they tell after the run.
    pub reports: Reports,
    /// How their shadows do.
    pub shadows: ShadowTallies,
}
