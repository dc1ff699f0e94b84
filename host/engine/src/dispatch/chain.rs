//! The path of an access: the plugins that may answer it, one after the other, and
//! then the policy.

use std::sync::Arc;

use wasmsr_interface::{MsrAccess, Reason, VcpuId};

use super::observers::Observers;
use super::strays::Strays;
use super::unhandled_log::UnhandledLog;
use crate::intercepts::Intercepts;
use crate::metrics::{Counters, Meter};
use crate::msr::{Decision, Policy, SlotId};
use crate::slots::{Routes, Slot, lock};

/// What decides the accesses of one vCPU.
pub(crate) struct Chain {
    pub(crate) vcpu: VcpuId,
    pub(crate) routes: Arc<Routes>,
    pub(crate) slots: Box<[Slot]>,
    /// Set if a plugin may change its intercepts.
    pub(crate) switches: Option<Intercepts>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) unhandled_log: UnhandledLog,
    /// Set if accesses are recorded, or shadows follow them.
    pub(crate) observers: Option<Box<Observers>>,
    /// Set if the plugins can be swapped while the guest runs.
    pub(crate) strays: Option<Strays>,
}

impl Chain {
    /// Asks the plugins that claim the access, then those that want what is unhandled
    /// for its reason, until one does not pass it on; then the policy.
    #[inline]
    pub(super) fn decide(&mut self, access: MsrAccess, counters: &Counters) -> Decision {
        let claimed = self.routes.map.lookup(access.index, access.op.direction());
        let first = claimed.first().copied();
        let mut meter = counters.begin(access.index, first);
        // Nearly every access ends with the answer of the first claimant. Intercepts
        // need no look if no plugin changes them; nor for the only claimant of an access
        // that the filter sent: it has the access on, or the access was pending when it
        // turned it off, unless unclaimed accesses exit too.
        let at_once = self.switches.is_none()
            || (claimed.len() == 1
                && access.reason == Reason::Filter
                && !self.policy.is_deny()
                && !self.strays.as_ref().is_some_and(Strays::two_sets_exit));
        if let Some(id) = first.filter(|_| at_once)
            && let Some(slot) = self.slots.get_mut(usize::from(id.0))
            && let Some(decision) =
                ask(slot, id, &access, self.vcpu, &mut self.observers, &mut meter)
        {
            meter.end(access.op, &decision);
            return decision;
        }
        self.ask_others(&access, usize::from(at_once), meter, counters)
    }

    /// Asks all but the first `asked` claimants, those that want what is unhandled, and
    /// the policy.
    #[cold]
    fn ask_others<'a>(
        &mut self,
        access: &MsrAccess,
        asked: usize,
        mut meter: Meter<'a>,
        counters: &'a Counters,
    ) -> Decision {
        let astray = self.strayed(access).map(|strays| strays.ask_kernel(access, self.vcpu));
        let access = &match astray {
            Some(Ok(outcome)) => {
                let decision = Decision { outcome, by: None, failed: false };
                meter.answered(|| None);
                meter.moves_to(counters, access.index, None);
                meter.end(access.op, &decision);
                return decision;
            }
            // As it would have exited without the other set.
            Some(Err(reason)) => MsrAccess { reason, ..*access },
            None => *access,
        };
        let claimed = match astray {
            Some(_) => &[],
            None => self.routes.map.lookup(access.index, access.op.direction()),
        };
        let turned_on;
        let claimed = match &self.switches {
            Some(switches) => {
                turned_on = self.turned_on(switches, claimed, access);
                &turned_on
            }
            None => claimed,
        };
        let others = claimed.get(asked..).unwrap_or_default();
        let mut others = others.iter().chain(self.routes.unhandled(access.reason));
        let decision = loop {
            let Some(&id) = others.next() else {
                self.unhandled_log.note(*access, self.vcpu, &self.policy);
                let outcome = self.policy.decide(*access);
                meter.answered(|| None);
                break Decision { outcome, by: None, failed: false };
            };
            let Some(slot) = self.slots.get_mut(usize::from(id.0)) else { continue };
            let decision = ask(slot, id, access, self.vcpu, &mut self.observers, &mut meter);
            if let Some(decision) = decision {
                break decision;
            }
        };
        meter.moves_to(counters, access.index, decision.by);
        meter.end(access.op, &decision);
        decision
    }

    /// Whether an access exits only because of another set of plugins.
    fn strayed(&self, access: &MsrAccess) -> Option<&Strays> {
        let strays = self.strays.as_ref().filter(|_| access.reason == Reason::Filter)?;
        let direction = access.op.direction();
        let claimed = self.routes.map.lookup(access.index, direction);
        let is_astray = match &self.switches {
            // Turned off here, it may exit since the other set has it on.
            Some(switches) if !claimed.is_empty() && strays.two_sets_exit() => {
                !claimed.iter().any(|id| self.has_on(switches, *id, access))
            }
            _ => claimed.is_empty(),
        };
        (is_astray && !self.policy.denies(access.index, direction)).then_some(strays)
    }

    fn has_on(&self, switches: &Intercepts, id: SlotId, access: &MsrAccess) -> bool {
        let name = self.routes.names.get(usize::from(id.0));
        name.is_some_and(|name| switches.is_on(name, access.index, access.op.direction()))
    }

    /// The claimants that have the access turned on.
    ///
    /// If the filter sent the access and no claimant has it on, the access was pending
    /// when a plugin turned it off: then all claimants may be asked.
    #[cold]
    fn turned_on(
        &self,
        switches: &Intercepts,
        claimed: &[SlotId],
        access: &MsrAccess,
    ) -> Vec<SlotId> {
        let on = |id: &&SlotId| self.has_on(switches, **id, access);
        let on: Vec<SlotId> = claimed.iter().filter(on).copied().collect();
        // With `default = "deny"` it exits all the same if it is not allowed.
        let is_pending = access.reason == Reason::Filter
            && on.is_empty()
            && !self.policy.denies(access.index, access.op.direction());
        match is_pending {
            true => claimed.to_vec(),
            false => on,
        }
    }
}

/// Puts an access to the plugin in a slot; `None` if it passes it on.
#[inline]
fn ask(
    slot: &mut Slot,
    id: SlotId,
    access: &MsrAccess,
    vcpu: VcpuId,
    observers: &mut Option<Box<Observers>>,
    meter: &mut Meter<'_>,
) -> Option<Decision> {
    let mut shared;
    let instance = match slot {
        Slot::Own(instance) => instance,
        Slot::Shared(instance) => {
            shared = lock(instance);
            &mut *shared
        }
    };
    let answer = instance.answer(*access, vcpu);
    meter.answered(|| instance.fuel_used());
    if let Some(observers) = observers {
        observers.asked(id, &answer, instance.fuel_used());
    }
    let (outcome, failed) = match answer {
        Ok(answer) => (answer.outcome()?, false),
        // What a plugin that was disabled would have answered is no failure of its own.
        Err(outcome) => (outcome, !instance.is_disabled()),
    };
    Some(Decision { outcome, by: Some(id), failed })
}
