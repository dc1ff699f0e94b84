//! What the policy did, said once per MSR and direction.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use wasmsr_interface::{Direction, MsrAccess, MsrIndex, VcpuId};

use crate::msr::{Policy, PolicyAction};
use crate::rate_limit::RateLimit;

/// MSRs that are reported; beyond them a guest is only probing.
const MOST: usize = 256;

/// Lines at once, and per second after that.
const BURST: u32 = 32;
const PER_SECOND: u32 = 2;

/// Reports the accesses that nobody answered; one for all vCPUs of a VM.
#[derive(Clone)]
pub(crate) struct UnhandledLog(Arc<Mutex<Said>>);

struct Said {
    msrs: HashSet<(MsrIndex, Direction)>,
    limit: RateLimit,
}

impl UnhandledLog {
    pub(crate) fn new() -> Self {
        let limit = RateLimit::new(BURST, PER_SECOND);
        UnhandledLog(Arc::new(Mutex::new(Said { msrs: HashSet::new(), limit })))
    }

    /// Says what `policy` does with `access`, unless it was said before.
    #[cold]
    pub(crate) fn tell(&self, access: MsrAccess, vcpu: VcpuId, policy: &Policy) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let direction = access.op.direction();
        if said.msrs.len() >= MOST || said.msrs.contains(&(access.index, direction)) {
            return;
        }
        // What the limit holds back now is said at its next access.
        let Some(held_back) = said.limit.allow() else { return };
        said.msrs.insert((access.index, direction));
        let (action, key) = policy.action(access);
        let done = match (action, direction) {
            (PolicyAction::Fault, _) => "fault",
            (PolicyAction::Ignore, Direction::Read) => "0x0",
            (PolicyAction::Ignore, Direction::Write) => "ok, and dropped",
            (PolicyAction::Stop, _) => "stop",
        };
        tracing::info!(
            "nobody answers the {direction} of {} (reason {}, {vcpu}): {done}, by {key} = \
             \"{action}\"{}",
            access.index.described(),
            access.reason,
            match held_back {
                0 => String::new(),
                more => format!(" ({more} accesses before this one were not reported)"),
            },
        );
        if said.msrs.len() == MOST {
            tracing::info!("{MOST} MSRs were left to the policy; further ones are only counted");
        }
    }
}
