//! A CPU template for MSRs: values and rules for KVM's own MSRs, as the
//! configuration lists them.
#![no_std]

extern crate alloc;

mod config;
mod initial;
mod rule;
mod template;

use alloc::vec::Vec;

use serde::Serialize;
use wasmsr_sdk::{Access, Error, Otherwise, Persist, Plugin, Reset, Saved, Setup, export};

use initial::Kept;
use template::Template;

struct ValueTemplate {
    template: Template,
}

impl Plugin for ValueTemplate {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let template = config::read(setup)?;
        initial::start(&template)?;
        Ok(ValueTemplate { template })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        self.template.find(access.index).ok_or(Otherwise::Pass)?.read(access.index)
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        self.template.find(access.index).ok_or(Otherwise::Pass)?.write(access.index, value)
    }
}

impl Reset for ValueTemplate {
    fn reset(&mut self) {
        initial::reset(&self.template);
    }
}

impl Persist for ValueTemplate {
    fn save(&self) -> impl Serialize {
        initial::keep(&self.template)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        let kept: Vec<Kept> = saved.state()?;
        initial::take_over(&self.template, &kept)
    }
}

export!(ValueTemplate: Reset, Persist);

#[cfg(test)]
mod tests;
