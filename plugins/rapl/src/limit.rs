//! Power limits and policies. They are kept for the guest and limit nothing: the
//! host decides what a vCPU may use.

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, Otherwise};

use crate::domain::Domain;

/// One limit: power in bits 14:0, enable in bit 15, clamping in bit 16, time window
/// in bits 23:17.
const ONE_LIMIT: u64 = 0x00ff_ffff;

/// Clamping, which the limit of the memory does not have.
const CLAMPING: u64 = 1 << 16;

/// Priority level of a power plane, bits 4:0 of its policy.
const PRIORITY: u64 = 0x1f;

/// `…_POWER_LIMIT` and `…_POLICY` of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    domain: Domain,
    at_reset: u64,
    limit: u64,
    policy: u64,
}

/// Their saved state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    limit: Bits64,
    policy: Bits64,
}

impl Limits {
    /// Their state after a reset; `None` if the limit has reserved bits.
    pub(crate) fn new(domain: Domain, at_reset: u64) -> Option<Self> {
        let limits = Limits { domain, at_reset, limit: at_reset, policy: 0 };
        (at_reset & limits.reserved() == 0).then_some(limits)
    }

    pub(crate) fn domain(&self) -> Domain {
        self.domain
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn policy(&self) -> u64 {
        self.policy
    }

    /// Takes a write of the limit. Once the lock bit is set, all writes are
    /// ignored until the next reset (Intel SDM volume 3, section 15.10.3).
    pub(crate) fn write_limit(&mut self, value: u64) -> Result<(), Otherwise> {
        if self.is_locked() {
            return Ok(());
        }
        if value & self.reserved() != 0 {
            return Err(Otherwise::Fault);
        }
        self.limit = value;
        Ok(())
    }

    /// Takes a write of the policy, which the lock bit of the limit locks too
    /// (section 15.10.4).
    pub(crate) fn write_policy(&mut self, value: u64) -> Result<(), Otherwise> {
        if self.is_locked() {
            return Ok(());
        }
        if value & !PRIORITY != 0 {
            return Err(Otherwise::Fault);
        }
        self.policy = value;
        Ok(())
    }

    pub(crate) fn reset(&mut self) {
        self.limit = self.at_reset;
        self.policy = 0;
    }

    pub(crate) fn keep(&self) -> Kept {
        Kept { limit: Bits64(self.limit), policy: Bits64(self.policy) }
    }

    /// Restores a saved state: `None` if no writes can have led to it.
    pub(crate) fn take_over(&mut self, kept: Kept) -> Option<()> {
        let Kept { limit: Bits64(limit), policy: Bits64(policy) } = kept;
        if limit & self.reserved() != 0 || policy & !PRIORITY != 0 {
            return None;
        }
        self.limit = limit;
        self.policy = policy;
        Some(())
    }

    fn is_locked(&self) -> bool {
        self.limit & self.lock() != 0
    }

    /// The bit that locks: the highest of a register with two limits, or with one.
    fn lock(&self) -> u64 {
        match self.domain {
            Domain::Package => 1 << 63,
            Domain::Core | Domain::Uncore | Domain::Dram => 1 << 31,
        }
    }

    fn reserved(&self) -> u64 {
        let fields = match self.domain {
            Domain::Package => ONE_LIMIT << 32 | ONE_LIMIT,
            Domain::Core | Domain::Uncore => ONE_LIMIT,
            Domain::Dram => ONE_LIMIT & !CLAMPING,
        };
        !(fields | self.lock())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Limit(u64),
        Policy(u64),
        Reset,
    }

    fn domain() -> impl Strategy<Value = Domain> {
        prop::sample::select(&Domain::ALL[..])
    }

    /// Values that are mostly valid, but each bit is set now and then.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => any::<u64>().prop_map(|bits| bits & 0x00fe_ffff),
            1 => any::<u64>(),
            2 => (0..64_u32).prop_map(|bit| 1 << bit),
            1 => Just(u64::MAX),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => value().prop_map(Step::Limit),
            2 => value().prop_map(Step::Policy),
            1 => (0..0x20_u64).prop_map(Step::Policy),
            1 => Just(Step::Reset),
        ]
    }

    /// The bits that a limit has, written out by the tables of volume 4.
    fn is_valid(domain: Domain, value: u64) -> bool {
        (0..64).filter(|bit| value >> bit & 1 != 0).all(|bit| match domain {
            Domain::Package => matches!(bit, 0..=23 | 32..=55 | 63),
            Domain::Core | Domain::Uncore => matches!(bit, 0..=23 | 31),
            Domain::Dram => matches!(bit, 0..=15 | 17..=23 | 31),
        })
    }

    proptest! {
        /// The model remembers the last accepted write, and whether it locked.
        #[test]
        fn a_lock_holds_until_the_reset(
            domain in domain(),
            at_reset in value(),
            steps in prop::collection::vec(step(), 0..32),
        ) {
            let made = Limits::new(domain, at_reset);
            prop_assert_eq!(made.is_some(), is_valid(domain, at_reset));
            let Some(mut limits) = made else { return Ok(()) };
            let lock_bit = if domain == Domain::Package { 63 } else { 31 };
            let is_lock = |value: u64| value >> lock_bit & 1 != 0;
            let (mut limit, mut policy) = (at_reset, 0);
            for step in steps {
                let locked = is_lock(limit);
                match step {
                    Step::Limit(value) => {
                        let taken = limits.write_limit(value);
                        prop_assert_eq!(taken.is_ok(), locked || is_valid(domain, value));
                        if !locked && taken.is_ok() {
                            limit = value;
                        }
                    }
                    Step::Policy(value) => {
                        let taken = limits.write_policy(value);
                        prop_assert_eq!(taken.is_ok(), locked || value < 0x20);
                        if !locked && taken.is_ok() {
                            policy = value;
                        }
                    }
                    Step::Reset => {
                        limits.reset();
                        (limit, policy) = (at_reset, 0);
                    }
                }
                prop_assert_eq!((limits.limit(), limits.policy()), (limit, policy));
                let mut heir = Limits::new(domain, at_reset).unwrap();
                prop_assert_eq!(heir.take_over(limits.keep()), Some(()));
                prop_assert_eq!(heir, limits);
            }
        }

        #[test]
        fn what_was_kept_is_not_trusted(domain in domain(), limit in value(), policy in value()) {
            let mut limits = Limits::new(domain, 0).unwrap();
            let kept = Kept { limit: Bits64(limit), policy: Bits64(policy) };
            let taken = limits.take_over(kept).is_some();
            prop_assert_eq!(taken, is_valid(domain, limit) && policy < 0x20);
            prop_assert!(taken || limits == Limits::new(domain, 0).unwrap());
        }
    }
}
