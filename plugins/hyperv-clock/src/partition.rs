//! The registers that all virtual processors share.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Access, Error, Otherwise, VcpuId, time, timer};

use crate::adjusts::{self, Adjusts};
use crate::config::Config;
use crate::crash::{self, Crash};
use crate::hypercall::HypercallInterface;
use crate::msr::{
    HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_CRASH_CTL, HV_X64_MSR_CRASH_P0, HV_X64_MSR_GUEST_OS_ID,
    HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_TIME_REF_COUNT,
    HV_X64_MSR_TSC_FREQUENCY,
};
use crate::reference::ReferenceTime;
use crate::tsc_page::TscPage;

/// KVM's local APIC counts nanoseconds (KVM api 7.39,
/// `KVM_CAP_X86_APIC_BUS_CYCLES_NS`: 1 unless a VMM sets it).
const APIC_HZ: u64 = 1_000_000_000;

/// The vCPU that a new instance serves before any access.
const FIRST: VcpuId = VcpuId(0);

/// The partition.
#[derive(Debug)]
pub(crate) struct Partition {
    config: Config,
    /// The vCPU whose thread the timer fires on: the one that was being served.
    timer_on: VcpuId,
    state: State,
}

/// Its saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    hypercall: HypercallInterface,
    reference: ReferenceTime,
    tsc_page: TscPage,
    adjusts: Adjusts,
    crash: Crash,
}

impl Partition {
    pub(crate) fn new(config: Config) -> Self {
        let state = State {
            hypercall: HypercallInterface::default(),
            reference: ReferenceTime::default(),
            tsc_page: TscPage::default(),
            adjusts: Adjusts::new(),
            crash: Crash::default(),
        };
        Partition { config, timer_on: FIRST, state }
    }

    pub(crate) fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match access.index {
            HV_X64_MSR_GUEST_OS_ID => Ok(self.state.hypercall.guest_os_id()),
            HV_X64_MSR_HYPERCALL => Ok(self.state.hypercall.register()),
            HV_X64_MSR_TIME_REF_COUNT => Ok(self.reference_time(access.vcpu)),
            HV_X64_MSR_REFERENCE_TSC => Ok(self.state.tsc_page.register()),
            HV_X64_MSR_TSC_FREQUENCY => Ok(u64::from(time::tsc_khz()) * 1000),
            HV_X64_MSR_APIC_FREQUENCY => Ok(APIC_HZ),
            HV_X64_MSR_CRASH_CTL => Ok(crash::CAPABILITIES),
            _ => self.crash_parameter(access).map(|parameter| *parameter),
        }
    }

    pub(crate) fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        match access.index {
            HV_X64_MSR_GUEST_OS_ID => self.state.hypercall.set_guest_os_id(value),
            HV_X64_MSR_HYPERCALL => self.state.hypercall.write(value)?,
            HV_X64_MSR_REFERENCE_TSC => {
                self.state.tsc_page.write(value);
                self.refresh(access.vcpu);
            }
            HV_X64_MSR_CRASH_CTL => self.state.crash.control(value),
            // "Any attempt to write to it results in a #GP fault" ("Partition
            // Reference Counter MSR"); the frequencies are facts.
            HV_X64_MSR_TIME_REF_COUNT | HV_X64_MSR_TSC_FREQUENCY | HV_X64_MSR_APIC_FREQUENCY => {
                return Err(Otherwise::Fault);
            }
            _ => *self.crash_parameter(access)? = value,
        }
        Ok(())
    }

    pub(crate) fn timer(&mut self) {
        self.refresh(self.timer_on);
    }

    /// A reset of the machine; the partition and its time go on.
    pub(crate) fn reset(&mut self) {
        self.state.hypercall = HypercallInterface::default();
        self.state.crash = Crash::default();
        self.state.tsc_page.reset();
        self.state.adjusts = Adjusts::new();
        self.state.reference.follow_host(time::now(), adjusts::served());
    }

    pub(crate) fn save(&self) -> State {
        let mut state = self.state.clone();
        state.reference.now(adjusts::served());
        state
    }

    pub(crate) fn restore(&mut self, state: State) -> Result<(), Error> {
        let reachable = state.hypercall.is_reachable()
            && state.tsc_page.is_reachable()
            && state.reference.is_reachable();
        if !reachable {
            return Err(Error::new("no guest can have written the saved registers"));
        }
        if !state.adjusts.is_of_this_vm() {
            return Err(Error::new("the saved state is of a VM with another number of vCPUs"));
        }
        self.state = state;
        if self.state.reference.is_still_right(time::now(), adjusts::served()) {
            // In the same VM the page has the line and the guest may be reading it, so it
            // stays until the timer comes, which takes the new line's moment with the page
            // hidden.
            self.timer_on = FIRST;
            if timer::call_at(0).is_ok() {
                return Ok(());
            }
        }
        self.refresh(FIRST);
        Ok(())
    }

    fn crash_parameter(&mut self, access: Access) -> Result<&mut u64, Otherwise> {
        let number = access.index.0.checked_sub(HV_X64_MSR_CRASH_P0.0);
        number.and_then(|number| self.state.crash.parameter(number)).ok_or(Otherwise::Fault)
    }

    fn reference_time(&mut self, vcpu: VcpuId) -> u64 {
        let State { tsc_page, adjusts, reference, .. } = &mut self.state;
        // The host's clock does not depend on the vCPU.
        if !tsc_page.is_enabled() {
            return reference.now(0);
        }
        let adjust = adjusts::served();
        adjusts.note(vcpu, adjust);
        if reference.line().is_some() && !reference.is_by_tsc(adjusts.agreed()) {
            self.refresh(vcpu);
        }
        self.state.reference.now(adjust)
    }

    /// Updates the page, and the time from which it counts, with the vCPU that
    /// is being served.
    fn refresh(&mut self, vcpu: VcpuId) {
        let State { tsc_page, adjusts, reference, .. } = &mut self.state;
        let has_page = tsc_page.hide();
        let now = time::now();
        let adjust = adjusts::served();
        adjusts.note(vcpu, adjust);
        // No line without a timer to renew it.
        let again = has_page && timer::call_at(now.ns + self.config.refresh_ns).is_ok();
        if again {
            self.timer_on = vcpu;
        }
        match adjusts.agreed() {
            Some(_) if again && time::tsc_is_stable() => reference.follow_tsc(now, adjust),
            _ => reference.follow_host(now, adjust),
        }
        if let Some(line) = reference.line() {
            tsc_page.show(line);
        }
    }
}

#[cfg(test)]
mod tests;
