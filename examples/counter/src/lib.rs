//! Counts how often each vCPU reads the MSR; a write sets the count.
#![no_std]

use wasmsr_sdk::{Access, Error, Otherwise, Plugin, Setup, export};

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

export!(Counter);

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
}
