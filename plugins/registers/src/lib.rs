//! Registers as data: the MSRs that the configuration lists, each with its value
//! after a reset and a rule for every bit.
#![no_std]

extern crate alloc;

mod bank;
mod config;
mod entry;
mod rule;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use serde::Serialize;
use wasmsr_sdk::{Access, Error, Otherwise, Persist, Plugin, Reset, Saved, Setup, export};

use bank::{Bank, Kept};

struct Registers {
    bank: Bank,
}

impl Plugin for Registers {
    fn new(setup: &Setup) -> Result<Self, Error> {
        Ok(Registers { bank: config::read(setup)? })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        self.bank.read(access.index)
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        self.bank.write(access.index, value)
    }
}

impl Reset for Registers {
    fn reset(&mut self) {
        self.bank.reset();
    }
}

impl Persist for Registers {
    fn save(&self) -> impl Serialize {
        self.bank.keep()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let kept: Vec<Kept> = saved.state()?;
        kept.into_iter().try_for_each(|kept| self.bank.take_over(kept))
    }
}

export!(Registers: Reset, Persist);
