//! Initial values: the values of KVM's own MSRs when the guest boots.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, Error, MsrIndex, kvm, log};

use crate::rule::{Overlay, Rule};
use crate::template::Template;

/// Most MSRs of a template that need KVM at start, for which it waits.
const MOST_AT_START: usize = 1024;

/// Most of them with an initial value: these must fit into saved state.
const MOST_INITIAL: usize = 512;

/// An initial MSR in the saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub(crate) struct Kept {
    msr: MsrIndex,
    /// KVM's.
    value: u64,
    /// What it was set to at the start.
    initial: Overlay,
}

/// Without the names of the fields: all must fit.
type Parts = (MsrIndex, Bits64, Bits64, Bits64);

impl From<Parts> for Kept {
    fn from((msr, Bits64(value), Bits64(initial), Bits64(mask)): Parts) -> Self {
        Kept { msr, value, initial: Overlay { value: initial & mask, mask } }
    }
}

impl From<Kept> for Parts {
    fn from(Kept { msr, value, initial }: Kept) -> Self {
        (msr, Bits64(value), Bits64(initial.value), Bits64(initial.mask))
    }
}

/// Checks that KVM has the template's MSRs, and gives it the initial values.
pub(crate) fn start(template: &Template) -> Result<(), Error> {
    let needed = || template.rules().filter(|rule| rule.needs_kvm()).flat_map(each);
    if let Some((msr, _)) = needed().nth(MOST_AT_START) {
        return Err(Error::in_config(
            "msrs",
            format_args!(
                "more than {MOST_AT_START} MSRs, with {msr} among them, need KVM's value; list \
                 fewer, or give sticky ones a whole `value` without `mask`"
            ),
        ));
    }
    if let Some((msr, _)) = initial(template).nth(MOST_INITIAL) {
        return Err(Error::in_config(
            "msrs",
            format_args!(
                "more than {MOST_INITIAL} MSRs, with {msr} among them, have initial values; list \
                 fewer, or make some of them sticky"
            ),
        ));
    }
    for (msr, rule) in needed() {
        let held = kvm::rdmsr(msr).map_err(|_| {
            Error::in_config(
                "msrs",
                format_args!(
                    "this host's KVM has no {msr}; remove it, or give it a whole sticky `value`, \
                     without `mask`"
                ),
            )
        })?;
        let Some(initial) = rule.initial else { continue };
        let value = initial.over(held);
        kvm::wrmsr(msr, value).map_err(|_| {
            Error::in_config(
                "msrs",
                format_args!(
                    "KVM refuses {value:#x} as initial value of {msr}; remove the bits that this \
                     host lacks from its `mask`, or make it sticky"
                ),
            )
        })?;
    }
    Ok(())
}

/// Gives KVM the initial values again.
pub(crate) fn reset(template: &Template) {
    for (msr, overlay) in initial(template) {
        if kvm::rdmsr(msr).and_then(|held| kvm::wrmsr(msr, overlay.over(held))).is_err() {
            log::error!("KVM refuses the initial value of {msr} at the reset");
        }
    }
}

/// The present values of the MSRs with initial values.
pub(crate) fn keep(template: &Template) -> Vec<Kept> {
    let held = initial(template)
        .filter_map(|(msr, initial)| Some(Kept { msr, value: kvm::rdmsr(msr).ok()?, initial }));
    held.collect()
}

/// Restores what a guest had made of its initial values, and sets the bits whose initial
/// value is another one than before. KVM keeps those that this template does not have.
pub(crate) fn take_over(template: &Template, kept: &[Kept]) -> Result<(), Error> {
    for kept in kept {
        let msr = kept.msr;
        let Some(rule) = template.find(msr) else { continue };
        let Some(initial) = rule.initial else { continue };
        let value = initial.changed_since(kept.initial).over(kept.value);
        // What a guest cannot write is as the template or KVM has it.
        let fits =
            kvm::rdmsr(msr).is_ok_and(|now| (initial.over(now) ^ value) & rule.locked() == 0);
        if !fits || kvm::wrmsr(msr, value).is_err() {
            return Err(Error::new(format_args!(
                "{msr} is no longer configured to hold its value, {value:#x}; leave its `write` \
                 and `read-only` as they were"
            )));
        }
    }
    Ok(())
}

fn initial(template: &Template) -> impl Iterator<Item = (MsrIndex, Overlay)> {
    let rules = template.rules().filter_map(|rule| Some((rule, rule.initial?)));
    rules.flat_map(|(rule, overlay)| each(rule).map(move |(msr, _)| (msr, overlay)))
}

fn each(rule: &Rule) -> impl Iterator<Item = (MsrIndex, &Rule)> {
    (rule.range.first.0..=rule.range.last.0).map(move |msr| (MsrIndex(msr), rule))
}
