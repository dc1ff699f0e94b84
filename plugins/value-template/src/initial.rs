//! Initial values: the values of KVM's own MSRs when the guest boots.

use alloc::vec::Vec;

use wasmsr_sdk::{Bits64, Error, MsrIndex, kvm, log};

use crate::rule::{Overlay, Rule};
use crate::template::Template;

/// Most MSRs of a template that need KVM at start: their values must fit into
/// saved state.
const MOST_AT_START: usize = 1024;

/// KVM's value of an initial MSR in the saved state.
pub(crate) type Kept = Vec<(MsrIndex, Bits64)>;

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
pub(crate) fn keep(template: &Template) -> Kept {
    let held = initial(template).filter_map(|(msr, _)| Some((msr, Bits64(kvm::rdmsr(msr).ok()?))));
    held.collect()
}

/// Restores what a guest had made of its initial values. KVM keeps those that
/// this template does not have.
pub(crate) fn take_over(template: &Template, kept: &Kept) -> Result<(), Error> {
    for &(msr, Bits64(value)) in kept {
        let Some(rule) = template.find(msr).filter(|rule| rule.initial.is_some()) else {
            continue;
        };
        let fits = kvm::rdmsr(msr).is_ok_and(|now| (now ^ value) & rule.locked() == 0);
        if !fits || kvm::wrmsr(msr, value).is_err() {
            return Err(Error::new(format_args!(
                "{msr} is no longer configured to hold its value"
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
