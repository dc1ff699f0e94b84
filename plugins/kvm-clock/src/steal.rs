//! `struct kvm_steal_time` in guest memory (Linux,
//! `arch/x86/include/uapi/asm/kvm_para.h`): how long this vCPU was ready to run
//! but had no CPU.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::memory::{self, GuestAddress, OutsideMemory};
use wasmsr_sdk::vcpus::{self, Times};
use wasmsr_sdk::{Bits64, Error, Otherwise, VcpuId, log, time, timer};

use crate::ENABLED;

/// `KVM_STEAL_RESERVED_MASK`: the structure is aligned to 64 bytes.
const RESERVED: u64 = 0x3e;
const ADDRESS: u64 = !0x3f;

/// Bytes of the structure, of which the last 44 are not used.
const LEN: usize = 64;
const STEAL: u64 = 0;
const VERSION: u64 = 8;
const PREEMPTED: u64 = 16;

/// One vCPU's `MSR_KVM_STEAL_TIME`.
pub(crate) struct StealTime {
    vcpu: VcpuId,
    interval_ns: u64,
    value: u64,
    /// The waiting time that the structure already contains.
    told_ns: u64,
}

/// A register's saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) value: Bits64,
    pub(crate) told_ns: u64,
}

impl StealTime {
    pub(crate) fn new(vcpu: VcpuId, interval_ns: u64) -> Self {
        StealTime { vcpu, interval_ns, value: 0, told_ns: 0 }
    }

    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    /// Takes a write. If the host does not count, KVM refuses every write.
    pub(crate) fn write(&mut self, value: u64) -> Result<(), Otherwise> {
        let times = vcpus::times(self.vcpu)?;
        if value & RESERVED != 0 {
            return Err(Otherwise::Fault);
        }
        if !self.is_enabled() {
            self.told_ns = times.waited_ns;
        }
        self.value = value;
        if self.is_enabled() {
            self.update(times).unwrap_or_else(|OutsideMemory| {
                let (vcpu, address) = (self.vcpu, self.address());
                log::warn!(
                    "{vcpu} wants its steal time at {address}, where the guest has no memory"
                );
            });
            self.call_later(self.interval_ns);
        }
        Ok(())
    }

    pub(crate) fn timer(&mut self) {
        if !self.is_enabled() {
            return;
        }
        if let Ok(times) = vcpus::times(self.vcpu) {
            // A bad address was reported when it was written.
            let _ = self.update(times);
        }
        self.call_later(self.interval_ns);
    }

    pub(crate) fn reset(&mut self) {
        self.value = 0;
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept { value: Bits64(self.value), told_ns: self.told_ns }
    }

    pub(crate) fn take_over(&mut self, kept: Kept) -> Result<(), Error> {
        if kept.value.0 & RESERVED != 0 {
            let (value, vcpu) = (kept.value, self.vcpu);
            return Err(Error::new(format_args!(
                "steal time MSR {value} of {vcpu} has reserved bits set; clear bits 1 to 5"
            )));
        }
        self.value = kept.value.0;
        self.told_ns = kept.told_ns;
        if self.is_enabled() {
            self.call_later(0);
        }
        Ok(())
    }

    fn is_enabled(&self) -> bool {
        self.value & ENABLED != 0
    }

    fn address(&self) -> GuestAddress {
        GuestAddress(self.value & ADDRESS)
    }

    fn call_later(&self, ns: u64) {
        if timer::call_at(time::monotonic_ns().saturating_add(ns)).is_err() {
            log::error!("the host sets no timer: the steal time of {} is not updated", self.vcpu);
        }
    }

    /// Adds to the structure how long the vCPU waited since the last time, as
    /// `record_steal_time` does. The sum belongs to the guest, which sets its
    /// start.
    fn update(&mut self, times: Times) -> Result<(), OutsideMemory> {
        let at = self.address();
        let field = |offset: u64| GuestAddress(at.0.wrapping_add(offset));
        memory::read(at, &mut [0; LEN])?;
        memory::write_value(field(PREEMPTED), 0_u8)?;
        let version = memory::read_value::<u32>(field(VERSION))?.wrapping_add(1) | 1;
        memory::write_value(field(VERSION), version)?;
        let steal: u64 = memory::read_value(field(STEAL))?;
        // On another host the vCPU has waited less so far; that is not negative
        // waiting.
        let more = times.waited_ns.saturating_sub(self.told_ns);
        memory::write_value(field(STEAL), steal.wrapping_add(more))?;
        self.told_ns = times.waited_ns;
        memory::write_value(field(VERSION), version.wrapping_add(1))
    }
}
