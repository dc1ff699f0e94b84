//! The registers of one virtual processor: TLFS, "Virtual Processor
//! Properties".

use serde::{Deserialize, Serialize};
use wasmsr_sdk::vcpus::{self, Times};
use wasmsr_sdk::{Error, MsrIndex, Otherwise, VcpuId, time};

use crate::msr::{HV_X64_MSR_VP_ASSIST_PAGE, HV_X64_MSR_VP_INDEX, HV_X64_MSR_VP_RUNTIME};
use crate::page::{self, PageRegister};

/// One virtual processor.
#[derive(Debug)]
pub(crate) struct Vp {
    index: VcpuId,
    state: State,
}

/// Its saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct State {
    ran_ns: u64,
    /// The host's count when `ran_ns` was updated.
    counted_ns: u64,
    assist: PageRegister,
}

impl Vp {
    pub(crate) fn new(index: VcpuId) -> Self {
        Vp { index, state: State::default() }
    }

    pub(crate) fn rdmsr(&mut self, msr: MsrIndex) -> Result<u64, Otherwise> {
        match msr {
            HV_X64_MSR_VP_INDEX => Ok(self.index.0.into()),
            HV_X64_MSR_VP_RUNTIME => Ok(self.runtime()),
            HV_X64_MSR_VP_ASSIST_PAGE => Ok(self.state.assist.value()),
            _ => Err(Otherwise::Fault),
        }
    }

    pub(crate) fn wrmsr(&mut self, msr: MsrIndex, value: u64) -> Result<(), Otherwise> {
        match msr {
            HV_X64_MSR_VP_ASSIST_PAGE => self.set_assist(PageRegister::written(value)),
            // "64-bit read-only" is the run time; the index "is unchanged
            // through the lifetime of the virtual processor".
            _ => Err(Otherwise::Fault),
        }
    }

    pub(crate) fn reset(&mut self) {
        self.state.assist = PageRegister::default();
    }

    pub(crate) fn save(&self) -> State {
        let mut up_to_date = Vp { index: self.index, state: self.state };
        // A vCPU that has not started yet has run for no time, which no guest has read.
        if self.state.counted_ns != 0 || vcpus::times(self.index).is_ok() {
            up_to_date.runtime();
        }
        up_to_date.state
    }

    pub(crate) fn restore(&mut self, state: State) -> Result<(), Error> {
        if !state.assist.is_reachable() {
            return Err(Error::new("the saved VP assist page register has reserved bits"));
        }
        self.state = state;
        Ok(())
    }

    /// "Cumulative time", in units of 100 ns. The host's count starts anew if
    /// the VM is restored elsewhere; it is then added to the earlier time.
    fn runtime(&mut self) -> u64 {
        // Not every kernel counts. A vCPU then counts as running all the time.
        let counted_ns = vcpus::times(self.index)
            .map_or_else(|_| time::monotonic_ns(), |Times { ran_ns, .. }| ran_ns);
        let state = &mut self.state;
        let more_ns = counted_ns.saturating_sub(state.counted_ns);
        state.ran_ns = state.ran_ns.saturating_add(more_ns);
        state.counted_ns = counted_ns;
        state.ran_ns / 100
    }

    /// Nothing is offered that would use the page, but a guest expects zeros in
    /// it: in the first field they mean "no EOI was left out"
    /// (`HV_VP_ASSIST_PAGE`).
    fn set_assist(&mut self, register: PageRegister) -> Result<(), Otherwise> {
        match register.enabled_at() {
            Some(at) if self.state.assist != register => page::fill(at, &[], 0)?,
            _ => {}
        }
        self.state.assist = register;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
