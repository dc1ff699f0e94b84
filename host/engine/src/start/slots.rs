//! Fills the slots of vCPUs with instances.

use std::sync::{Arc, Mutex};

use wasmsr_interface::VcpuId;

use super::error::StartError;
use crate::manifest::Scope;
use crate::slots::{Slot, SlotPlan, SupervisedInstance};

/// Makes the instance of a slot, for one vCPU or for the VM.
pub(super) type NewInstance<'a> =
    &'a mut dyn FnMut(&SlotPlan, Option<VcpuId>) -> Result<SupervisedInstance, StartError>;

/// The VM's own instances, in the places of their slots.
pub(super) fn shared_slots(
    plans: &[SlotPlan],
    instance: NewInstance<'_>,
) -> Result<Vec<Option<Arc<Mutex<SupervisedInstance>>>>, StartError> {
    let shared = plans.iter().map(|plan| match plan.scope {
        Scope::Vm => instance(plan, None).map(|instance| Some(Arc::new(Mutex::new(instance)))),
        Scope::Vcpu => Ok(None),
    });
    shared.collect()
}

/// A vCPU's row of slots.
pub(super) fn slots_of(
    vcpu: VcpuId,
    plans: &[SlotPlan],
    shared: &[Option<Arc<Mutex<SupervisedInstance>>>],
    instance: NewInstance<'_>,
) -> Result<Box<[Slot]>, StartError> {
    let slots = plans.iter().zip(shared).map(|(plan, shared)| match shared {
        Some(shared) => Ok(Slot::Shared(shared.clone())),
        None => instance(plan, Some(vcpu)).map(Slot::Own),
    });
    slots.collect()
}
