//! Hyper-V's reference time and the synthetic MSRs around it, by the
//! Hypervisor Top Level Functional Specification (TLFS). Sections are named as
//! in the edition of learn.microsoft.com, MSRs as in Linux's `hyperv-tlfs.h`.
#![no_std]

extern crate alloc;

mod adjusts;
mod config;
mod crash;
mod hypercall;
mod line;
mod msr;
mod page;
mod partition;
mod reference;
mod tsc_page;
mod vp;

use alloc::boxed::Box;

use serde::Serialize;
use wasmsr_sdk::{Access, Error, Otherwise, Persist, Plugin, Reset, Saved, Setup, Timer, export};

use partition::Partition;
use vp::Vp;

use HypervClock::{Partition as Shared, Vp as Own};

/// One of the plugin's two kinds of instances.
enum HypervClock {
    /// The registers that all virtual processors share.
    Partition(Box<Partition>),
    /// The registers of one virtual processor.
    Vp(Vp),
}

impl Plugin for HypervClock {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let config = config::read(setup)?;
        Ok(match setup.vcpu() {
            None => Shared(Box::new(Partition::new(config))),
            Some(vcpu) => Own(Vp::new(vcpu)),
        })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match self {
            Shared(partition) => partition.rdmsr(access),
            Own(vp) => vp.rdmsr(access.index),
        }
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        match self {
            Shared(partition) => partition.wrmsr(access, value),
            Own(vp) => vp.wrmsr(access.index, value),
        }
    }
}

impl Reset for HypervClock {
    fn reset(&mut self) {
        match self {
            Shared(partition) => partition.reset(),
            Own(vp) => vp.reset(),
        }
    }
}

impl Timer for HypervClock {
    fn timer(&mut self) {
        if let Shared(partition) = self {
            partition.timer();
        }
    }
}

/// An instance's saved state.
#[derive(Serialize)]
#[serde(untagged)]
enum State {
    Partition(Box<partition::State>),
    Vp(vp::State),
}

impl Persist for HypervClock {
    fn save(&self) -> impl Serialize {
        match self {
            Shared(partition) => State::Partition(Box::new(partition.save())),
            Own(vp) => State::Vp(vp.save()),
        }
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        match self {
            Shared(partition) => partition.restore(saved.state()?),
            Own(vp) => vp.restore(saved.state()?),
        }
    }
}

export!(HypervClock: Reset, Persist, Timer);

#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};
    use wasmsr_sdk::{MsrIndex, VcpuId};

    use super::*;

    /// Every instance faults at the registers of the other kind: a register in
    /// the wrong range of the manifest would have no answer.
    #[test]
    fn the_scopes_of_the_manifest_are_those_of_the_registers() {
        let host = Host::fresh();
        let mut shared: HypervClock = host.load_for(None, "{}").unwrap();
        let mut own: HypervClock = host.load_for(Some(VcpuId(0)), "{}").unwrap();
        let manifest = include_str!("../plugin.toml");
        let mut claimed = 0;
        for table in manifest.split("[[msr]]").skip(1) {
            let text = |key: &str| {
                let value = table.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                value.split('"').nth(1).unwrap()
            };
            let (first, last) = text("range =").split_once('-').unwrap();
            let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16);
            for index in number(first).unwrap()..=number(last).unwrap() {
                let msr = MsrIndex(index);
                let other = if text("scope =") == "vm" { &mut own } else { &mut shared };
                assert_eq!(other.rdmsr(access(index)), Err(Otherwise::Fault), "{msr}");
                assert_eq!(other.wrmsr(access(index), 0), Err(Otherwise::Fault), "{msr}");
                assert_eq!(index, 0x4000_0000 + claimed, "in order, without a gap");
                claimed += 1;
            }
        }
        assert_eq!(claimed, 0x200);
    }
}
