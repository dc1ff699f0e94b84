//! Counts how often each vCPU reads the MSR; a write sets the count.
#![no_std]

use serde::Serialize;
use wasmsr_sdk::{Access, Error, Otherwise, Persist, Plugin, Saved, Setup, export};

struct Counter {
    reads: u64,
}

impl Plugin for Counter {
    fn new(_: &Setup) -> Result<Self, Error> {
        Ok(Counter { reads: 0 })
    }

    fn rdmsr(&mut self, _: Access) -> Result<u64, Otherwise> {
        self.reads = self.reads.wrapping_add(1);
        Ok(self.reads)
    }

    fn wrmsr(&mut self, _: Access, value: u64) -> Result<(), Otherwise> {
        self.reads = value;
        Ok(())
    }
}

impl Persist for Counter {
    fn save(&self) -> impl Serialize {
        self.reads
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        self.reads = saved.state()?;
        Ok(())
    }
}

export!(Counter: Persist);

#[cfg(test)]
mod tests {
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    #[test]
    fn reads_are_counted_from_what_was_written() {
        let mut counter: Counter = Host::fresh().load("{}").unwrap();
        let msr = access(0x434e_5400);
        assert_eq!(counter.rdmsr(msr), Ok(1));
        counter.wrmsr(msr, 41).unwrap();
        assert_eq!(counter.rdmsr(msr), Ok(42));
    }

    #[test]
    fn another_instance_continues_with_the_count() {
        let host = Host::fresh();
        let msr = access(0x434e_5400);
        let mut old: Counter = host.load("{}").unwrap();
        old.wrmsr(msr, 41).unwrap();
        let mut new: Counter = host.load("{}").unwrap();
        new.restore(&host.save(&old, "0.1.0").unwrap()).unwrap();
        assert_eq!(new.rdmsr(msr), Ok(42));
    }
}
