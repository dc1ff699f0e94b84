//! The reports of plugins when a run has ended.

use std::sync::{Arc, Mutex, PoisonError};

use wasmsr_interface::VcpuId;

/// One instance's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The vCPU whose instance it is; `None` for the VM's.
    pub vcpu: Option<VcpuId>,
    /// Lines without control characters, at most 64 KiB.
    pub text: String,
}

/// The reports of one boot. They are there once
/// [`MsrHandler::end`](wasmsr_interface::MsrHandler::end) was called for every vCPU.
#[derive(Debug, Clone, Default)]
pub struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    /// Takes the reports that there are so far.
    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, report: Report) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }
}
