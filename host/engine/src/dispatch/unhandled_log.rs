//! Logs what the policy did, once for each MSR and direction.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use wasmsr_interface::{Direction, Host, MsrAccess, MsrIndex, Reason, VcpuId};

use crate::msr::{Policy, PolicyAction};
use crate::rate_limit::RateLimit;
use crate::slots::Located;

/// MSRs and directions that are logged: a guest that accesses more is probing.
const MOST: usize = 256;

/// Lines at once, and per second after that.
const BURST: u32 = 32;
const PER_SECOND: u32 = 2;

/// Logs unhandled accesses; one for all vCPUs of a VM.
#[derive(Clone)]
pub(crate) struct UnhandledLog {
    logged: Arc<Mutex<Logged>>,
    /// Knows where vCPUs are.
    host: Arc<dyn Host>,
}

struct Logged {
    msrs: HashSet<(MsrIndex, Direction)>,
    limit: RateLimit,
}

impl UnhandledLog {
    pub(crate) fn new(host: Arc<dyn Host>) -> Self {
        let limit = RateLimit::new(BURST, PER_SECOND);
        let logged = Arc::new(Mutex::new(Logged { msrs: HashSet::new(), limit }));
        UnhandledLog { logged, host }
    }

    /// Logs what `policy` does with `access`, unless its MSR and direction were logged.
    #[cold]
    pub(super) fn note(&self, access: MsrAccess, vcpu: VcpuId, policy: &Policy) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let direction = access.op.direction();
        if logged.msrs.len() >= MOST || logged.msrs.contains(&(access.index, direction)) {
            return;
        }
        // An access that the limit holds back now is logged when it comes again.
        let Some(held_back) = logged.limit.allow() else { return };
        logged.msrs.insert((access.index, direction));
        let (action, key) = policy.action(access);
        let outcome = match (action, direction) {
            (PolicyAction::Fault, _) => "fault",
            (PolicyAction::Ignore, Direction::Read) => "0x0",
            (PolicyAction::Ignore, Direction::Write) => "ok, and dropped",
            (PolicyAction::Kernel, _) if access.reason == Reason::Filter => "kernel",
            (PolicyAction::Kernel, _) => "fault",
            (PolicyAction::Stop, _) => "stop",
        };
        tracing::info!(
            "the {} is unhandled (reason {}{}, {}): {outcome}, by {key} = \"{action}\"{}",
            access.described(),
            access.reason,
            match access.reason == Reason::Filter && policy.denies(access.index, direction) {
                true => ", not in [msr] allow",
                false => "",
            },
            Located { vcpu, host: &*self.host },
            match held_back {
                0 => String::new(),
                more => format!(" ({more} accesses before this one were not reported)"),
            },
        );
        if logged.msrs.len() == MOST {
            tracing::info!("{MOST} MSRs were unhandled; further ones are only counted");
        }
    }
}
