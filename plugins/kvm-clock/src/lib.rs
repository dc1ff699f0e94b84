//! KVM's paravirtual clock, answered outside the kernel: wall clock, system
//! time and steal time (Linux, `Documentation/virt/kvm/x86/msr.rst`), with the
//! behaviour of `arch/x86/kvm/x86.c` where that page is silent.
#![no_std]

extern crate alloc;

mod clock;
mod config;
mod pvclock;
mod steal;
mod wall_clock;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{
    Access, Error, MsrIndex, Otherwise, Persist, Plugin, Reset, Saved, Setup, Timer, export,
};

use clock::Clock;
use config::Config;
use steal::StealTime;

/// `MSR_KVM_WALL_CLOCK`
const WALL_CLOCK_OLD: MsrIndex = MsrIndex(0x11);
/// `MSR_KVM_SYSTEM_TIME`
const SYSTEM_TIME_OLD: MsrIndex = MsrIndex(0x12);
/// `MSR_KVM_WALL_CLOCK_NEW`
const WALL_CLOCK: MsrIndex = MsrIndex(0x4b56_4d00);
/// `MSR_KVM_SYSTEM_TIME_NEW`
const SYSTEM_TIME: MsrIndex = MsrIndex(0x4b56_4d01);
/// `MSR_KVM_STEAL_TIME`
const STEAL_TIME: MsrIndex = MsrIndex(0x4b56_4d03);

/// Bit 0 of system time and steal time: the structure at the address in the
/// other bits is kept up to date.
const ENABLED: u64 = 1 << 0;

enum KvmClock {
    /// The VM's instance: one clock for all.
    Clock(Clock),
    /// A vCPU's instance: its steal time.
    StealTime(StealTime),
}

/// An instance's saved state.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Clock(clock::Kept),
    StealTime(steal::Kept),
}

impl Plugin for KvmClock {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let config = Config::read(setup)?;
        Ok(match setup.vcpu() {
            None => KvmClock::Clock(Clock::new(config.refresh_ns)),
            Some(vcpu) => KvmClock::StealTime(StealTime::new(vcpu, config.steal_interval_ns)),
        })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match (self, access.index) {
            (KvmClock::Clock(clock), WALL_CLOCK | WALL_CLOCK_OLD) => Ok(clock.wall_clock()),
            (KvmClock::Clock(clock), SYSTEM_TIME | SYSTEM_TIME_OLD) => {
                clock.system_time(access.vcpu).ok_or(Otherwise::Fault)
            }
            (KvmClock::StealTime(steal), STEAL_TIME) => Ok(steal.value()),
            _ => Err(Otherwise::Fault),
        }
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        match (self, access.index) {
            (KvmClock::Clock(clock), WALL_CLOCK | WALL_CLOCK_OLD) => {
                clock.set_wall_clock(access.vcpu, value);
                Ok(())
            }
            (KvmClock::Clock(clock), SYSTEM_TIME | SYSTEM_TIME_OLD) => {
                clock.set_system_time(access.vcpu, value).ok_or(Otherwise::Fault)
            }
            (KvmClock::StealTime(steal), STEAL_TIME) => steal.write(value),
            _ => Err(Otherwise::Fault),
        }
    }
}

impl Timer for KvmClock {
    fn timer(&mut self) {
        match self {
            KvmClock::Clock(clock) => clock.timer(),
            KvmClock::StealTime(steal) => steal.timer(),
        }
    }
}

impl Reset for KvmClock {
    fn reset(&mut self) {
        match self {
            KvmClock::Clock(clock) => clock.reset(),
            KvmClock::StealTime(steal) => steal.reset(),
        }
    }
}

impl Persist for KvmClock {
    fn save(&self) -> impl Serialize {
        match self {
            KvmClock::Clock(clock) => State::Clock(clock.keep()),
            KvmClock::StealTime(steal) => State::StealTime(steal.keep()),
        }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        match (self, saved.state()?) {
            (KvmClock::Clock(clock), State::Clock(kept)) => clock.take_over(kept),
            (KvmClock::StealTime(steal), State::StealTime(kept)) => steal.take_over(kept),
            _ => Err(Error::new("the state is of the other scope: vcpu for steal time, else vm")),
        }
    }
}

export!(KvmClock: Reset, Persist, Timer);

#[cfg(test)]
mod tests;
