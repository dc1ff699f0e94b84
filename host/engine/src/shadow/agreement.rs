//! How the plugin in charge and KVM agree, MSR by MSR.

use wasmsr_interface::{MsrIndex, MsrOp};

/// How the plugin in charge and KVM agree on one MSR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MsrAgreement {
    /// The MSR.
    pub index: MsrIndex,
    /// Reads that were compared.
    pub reads: u64,
    /// Those with another answer.
    pub other_reads: u64,
    /// Writes that were compared.
    pub writes: u64,
    /// Those with another answer.
    pub other_writes: u64,
    /// Accesses that were not compared.
    pub not_compared: u64,
    /// The first difference.
    pub example: Option<String>,
}

impl MsrAgreement {
    /// Of an MSR that was not accessed yet.
    pub fn new(index: MsrIndex) -> Self {
        MsrAgreement {
            index,
            reads: 0,
            other_reads: 0,
            writes: 0,
            other_writes: 0,
            not_compared: 0,
            example: None,
        }
    }

    pub(super) fn compared(&mut self, op: MsrOp) -> &mut u64 {
        match op {
            MsrOp::Read => &mut self.reads,
            MsrOp::Write(_) => &mut self.writes,
        }
    }

    pub(super) fn differing(&mut self, op: MsrOp) -> &mut u64 {
        match op {
            MsrOp::Read => &mut self.other_reads,
            MsrOp::Write(_) => &mut self.other_writes,
        }
    }
}
