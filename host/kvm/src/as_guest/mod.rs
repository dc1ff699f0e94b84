//! KVM's answers to a guest's own accesses, for MSRs whose accesses exit.
//!
//! `KVM_GET_MSRS` and `KVM_SET_MSRS` are the host's door: KVM lets a VMM read and write
//! what it refuses to a guest, and some writes have another effect (`host_initiated` in
//! the kernel's `arch/x86/kvm`). What a guest may do depends on its CPUID, on the kernel's
//! version and on the value that the MSR has. So KVM itself is asked: a vCPU of
//! a second VM, with the same CPUID and no filter, executes the instruction, with the MSR as
//! the guest has it. What KVM decides there is done to the guest's vCPU.

mod code;
mod mapping;
mod reference;
mod site;
mod time;
mod would;

use std::sync::{Arc, Mutex, PoisonError};

use wasmsr_interface::MsrIndex;

use self::reference::Reference;
pub(crate) use self::site::Site;
use crate::kvm_msrs::{KernelMsrs, KvmMsrs};
use crate::{cpuid, registers};

/// KVM's MSRs of one vCPU as its guest would read and write them. To be used by the thread
/// that runs the vCPU, as [`KvmMsrs`] is.
///
/// The first use makes the second VM, which takes about a millisecond. It is made anew if
/// it ends in a state that it should not be in, but not more than 8 times;
/// from then on, and if it cannot be made at all, every access is refused.
#[derive(Debug, Clone)]
pub struct AsGuest(Arc<Inner>);

/// How often the second VM of a vCPU is made.
const MOST_REFERENCES: u32 = 8;

#[derive(Debug)]
struct Inner {
    msrs: KvmMsrs,
    site: Arc<Site>,
    reference: Mutex<Slot>,
    /// What follows if the second VM does not answer, for the log.
    consequence: &'static str,
}

#[derive(Debug, Default)]
struct Slot {
    reference: Option<Reference>,
    made: u32,
}

impl AsGuest {
    pub(crate) fn of(msrs: KvmMsrs, site: Arc<Site>) -> Self {
        let consequence = "an access that a plugin leaves to KVM is a #GP";
        AsGuest(Arc::new(Inner { msrs, site, reference: Mutex::default(), consequence }))
    }

    /// For questions alone ([`would`](Self::would)), with a second VM of its own: whatever a
    /// guest makes of that one, what it gets from KVM stays the same.
    pub(crate) fn for_questions(msrs: KvmMsrs, site: Arc<Site>) -> Self {
        let consequence = "a kernel shadow does not compare";
        AsGuest(Arc::new(Inner { msrs, site, reference: Mutex::default(), consequence }))
    }

    /// KVM's MSRs of the same vCPU as a VMM has them.
    pub(crate) fn msrs(&self) -> &KvmMsrs {
        &self.0.msrs
    }

    /// Has the second VM do something. If there is none, or if that fails, the answer is
    /// the default, a refusal: a guest must not get more than KVM would have given it.
    fn ask<T: Default>(&self, question: impl FnOnce(&mut Reference) -> Result<T, String>) -> T {
        let mut slot = self.0.reference.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.reference.is_none() && slot.made < MOST_REFERENCES {
            slot.made += 1;
            let leaves = cpuid::cpuid_of(&self.0.msrs);
            let made = leaves.map_err(|refused| refused.to_string()).and_then(|leaves| {
                Reference::new(&self.0.site, &leaves).map_err(|refused| refused.to_string())
            });
            match made {
                Ok(made) => slot.reference = Some(made),
                Err(error) => self.tell(&error),
            }
        }
        let Some(reference) = &mut slot.reference else { return T::default() };
        question(reference).unwrap_or_else(|error| {
            self.tell(&error);
            slot.reference = None;
            T::default()
        })
    }

    /// At most [`MOST_REFERENCES`] times for a vCPU.
    fn tell(&self, error: &str) {
        tracing::warn!(
            "KVM cannot be asked what it gives to the guest itself, so {}: {error}",
            self.0.consequence
        );
    }

    /// IA32_EFER: long mode is left to rules, since the second VM does not leave its own mode.
    /// A guest cannot change LME while it pages (SDM volume 3, "IA-32e mode"), and has neither
    /// LME nor LMA without the feature (`__kvm_valid_efer`).
    fn write_efer(&self, value: u64) -> bool {
        const LME: u64 = 1 << 8;
        const LMA: u64 = 1 << 10;
        let msrs = &self.0.msrs;
        let Some(held) = msrs.read(EFER) else { return false };
        if (held ^ value) & LME != 0 && registers::pages(msrs) {
            return false;
        }
        let others = value & !(LME | LMA);
        let taken = self.ask(|reference| {
            let known = value == others || reference.has_long_mode();
            Ok(known && reference.may_write(EFER, others)?)
        });
        taken && msrs.write(EFER, value)
    }

    fn write_by_reference(&self, index: MsrIndex, value: u64) -> bool {
        let msrs = &self.0.msrs;
        let written = self.ask(|reference| reference.write(index, value, msrs));
        written.is_some_and(|(index, to_set)| msrs.write(index, to_set))
    }
}

/// IA32_EFER
const EFER: MsrIndex = MsrIndex(0xc000_0080);

impl KernelMsrs for AsGuest {
    fn read(&self, index: MsrIndex) -> Option<u64> {
        let msrs = &self.0.msrs;
        let may = self.ask(|reference| reference.may_read(index, msrs));
        // A moment later than KVM's own, as a guest may be interrupted.
        if may { msrs.read(index) } else { None }
    }

    fn write(&self, index: MsrIndex, value: u64) -> bool {
        match index {
            time::TSC => time::write_tsc(&self.0.msrs, value),
            time::TSC_ADJUST => {
                self.ask(|reference| reference.may_write(index, value))
                    && time::write_tsc_adjust(&self.0.msrs, value)
            }
            EFER => self.write_efer(value),
            _ => self.write_by_reference(index, value),
        }
    }
}
