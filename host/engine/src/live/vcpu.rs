//! A vCPU whose plugins can be swapped while it runs.

use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use wasmsr_interface::{MsrAccess, MsrHandler, Outcome};

use super::cell::VcpuCell;
use super::vm::Live;

/// Answers the MSR accesses of one vCPU with the set that is in charge.
pub struct LiveVcpu {
    pub(super) cell: Arc<VcpuCell>,
    pub(super) live: Live,
    /// The last call for attention that was heeded.
    pub(super) heeded: u32,
}

impl LiveVcpu {
    #[inline]
    fn heed(&mut self) {
        let called = self.live.0.attention.load(Acquire);
        if called != self.heeded {
            self.heed_call(called);
        }
    }

    #[cold]
    fn heed_call(&mut self, called: u32) {
        self.heeded = called;
        self.live.return_if_condemned();
        self.live.apply_disabled(&self.cell);
    }
}

impl MsrHandler for LiveVcpu {
    #[inline]
    fn answer(&mut self, access: MsrAccess) -> Outcome {
        self.heed();
        let mut own = self.cell.lock();
        own.settle();
        own.dispatch.answer(access)
    }

    fn wake(&mut self) {
        self.heed();
        let mut own = self.cell.lock();
        own.settle();
        own.dispatch.wake();
    }

    fn end(&mut self) {
        self.live.ended();
        self.cell.lock().dispatch.end();
    }
}
