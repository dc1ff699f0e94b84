//! The next version of `counter`: it counts writes too, which a second MSR shows. It
//! continues with the state of version 0.1 and gives it back.
#![no_std]

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{
    Access, Error, Follows, Format, MsrIndex, Oldest, Otherwise, Plugin, Setup, Version, Versioned,
    export,
};

const READS: MsrIndex = MsrIndex(0x434e_5400);
const WRITES: MsrIndex = MsrIndex(0x434e_5401);

struct Counter {
    counts: Counts,
}

impl Plugin for Counter {
    fn new(_: &Setup) -> Result<Self, Error> {
        Ok(Counter { counts: Counts { reads: 0, writes: 0 } })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        match access.index {
            READS => {
                self.counts.reads = self.counts.reads.wrapping_add(1);
                Ok(self.counts.reads)
            }
            WRITES => Ok(self.counts.writes),
            _ => Err(Otherwise::Fault),
        }
    }

    fn wrmsr(&mut self, _: Access, value: u64) -> Result<(), Otherwise> {
        self.counts = Counts { reads: value, writes: self.counts.writes.wrapping_add(1) };
        Ok(())
    }
}

/// What this version saves.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Counts {
    reads: u64,
    writes: u64,
}

/// What version 0.1 saves.
#[derive(Serialize, Deserialize)]
struct Reads(u64);

impl Format for Reads {
    const SINCE: Version = Version(0, 1);
    type Before = Oldest;
}

impl Format for Counts {
    const SINCE: Version = Version(0, 2);
    type Before = Reads;
}

impl Follows<Reads> for Counts {
    fn up(Reads(reads): Reads) -> Result<Self, Error> {
        Ok(Counts { reads, writes: 0 })
    }

    fn down(self) -> Result<Reads, Error> {
        Ok(Reads(self.reads))
    }
}

impl Versioned for Counter {
    type State = Counts;

    fn state(&self) -> Counts {
        self.counts
    }

    fn take_over(&mut self, counts: Counts) -> Result<(), Error> {
        self.counts = counts;
        Ok(())
    }
}

export!(Counter: Versioned);

#[cfg(test)]
mod tests {
    use wasmsr_sdk::Persist;
    use wasmsr_sdk::native::{Host, access};

    use super::*;

    #[test]
    fn version_1_is_continued_and_continues() {
        let host = Host::fresh();
        let mut counter: Counter = host.load("{}").unwrap();
        counter.restore(&host.forge(&41, "0.1.0").unwrap()).unwrap();
        assert_eq!(counter.rdmsr(access(READS.0)), Ok(42));
        counter.wrmsr(access(READS.0), 7).unwrap();
        assert_eq!(counter.rdmsr(access(WRITES.0)), Ok(1));
        assert_eq!(host.save_for(&counter, "0.1.0"), host.forge(&7, "0.1.0"));
    }

    #[test]
    fn its_own_state_has_both_counts() {
        let host = Host::fresh();
        let mut old: Counter = host.load("{}").unwrap();
        old.wrmsr(access(READS.0), 7).unwrap();
        let mut new: Counter = host.load("{}").unwrap();
        new.restore(&host.save(&old, "0.2.0").unwrap()).unwrap();
        assert_eq!(new.rdmsr(access(READS.0)), Ok(8));
        assert_eq!(new.rdmsr(access(WRITES.0)), Ok(1));
    }

    #[test]
    fn a_version_that_is_not_known_is_refused() {
        let host = Host::fresh();
        let mut counter: Counter = host.load("{}").unwrap();
        assert!(counter.restore(&host.forge(&41, "0.3.0").unwrap()).is_err());
        assert!(host.save_for(&counter, "0.0.1").is_err());
    }
}
