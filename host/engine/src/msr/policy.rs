//! What becomes of an unhandled access: one that no plugin takes.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::{Direction, MsrAccess, MsrRange, Outcome, Reason};

/// The profile's `[msr]` table: a per-VM `ignore_msrs`, by reason, MSR and
/// direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// an access to an MSR that KVM does not know, or that every plugin which
    /// claims it has passed on
    pub unknown: PolicyAction,
    /// an access to an MSR that KVM knows, with a value or in a mode that it
    /// refuses
    pub invalid: PolicyAction,
    /// exceptions, whatever the reason; the first that matches decides
    #[serde(rename = "override")]
    pub overrides: Vec<PolicyOverride>,
}

/// `[[msr.override]]`: what becomes of unhandled accesses to a range.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct PolicyOverride {
    /// the MSRs, as in a [manifest](manifest.md#msr)
    #[cfg_attr(test, schemars(with = "kind::Range"), serde(skip_serializing))]
    pub range: MsrRange,
    /// for reads
    #[cfg_attr(test, schemars(extend("x-default" = "as without the exception")))]
    pub read: Option<PolicyAction>,
    /// for writes
    #[cfg_attr(test, schemars(extend("x-default" = "as without the exception")))]
    pub write: Option<PolicyAction>,
}

/// One answer of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum PolicyAction {
    /// a #GP in the guest
    #[default]
    Fault,
    /// a read gives 0, a write is dropped
    Ignore,
    /// the run ends with exit code 10 and a sentence that names the MSR, the value of a
    /// write and the guest's RIP
    Stop,
}

impl Policy {
    /// The action for an unhandled access, and the profile's key that says so.
    pub fn action(&self, access: MsrAccess) -> (PolicyAction, &'static str) {
        let exception = self.overrides.iter().filter(|o| o.range.contains(access.index));
        let mut exception = exception.filter_map(|o| match access.op.direction() {
            Direction::Read => o.read.map(|action| (action, "[[msr.override]] read")),
            Direction::Write => o.write.map(|action| (action, "[[msr.override]] write")),
        });
        exception.next().unwrap_or(match access.reason {
            Reason::Invalid => (self.invalid, "[msr] invalid"),
            Reason::Unknown | Reason::Filter => (self.unknown, "[msr] unknown"),
        })
    }

    /// The outcome for an unhandled access.
    pub fn decide(&self, access: MsrAccess) -> Outcome {
        match self.action(access) {
            (PolicyAction::Fault, _) => Outcome::Fault,
            (PolicyAction::Ignore, _) => Outcome::ignored(access.op),
            (PolicyAction::Stop, key) => {
                let (described, reason) = (access.described(), access.reason);
                Outcome::Stop(
                    format!(
                        "the {described} is unhandled (reason {reason}), and the profile says \
                         {key} = \"stop\""
                    )
                    .into(),
                )
            }
        }
    }
}

impl fmt::Display for PolicyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyAction::Fault => "fault",
            PolicyAction::Ignore => "ignore",
            PolicyAction::Stop => "stop",
        })
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_interface::{MsrIndex, MsrOp};

    use super::*;

    fn access(index: u32, op: MsrOp, reason: Reason) -> MsrAccess {
        MsrAccess { index: MsrIndex(index), op, reason }
    }

    #[test]
    fn an_override_decides_its_own_direction_and_the_first_one_wins() {
        let policy: Policy = crate::toml_file::parse(
            "unknown = \"stop\"\ninvalid = \"ignore\"\n\
             [[override]]\nrange = \"0x10\"\nread = \"fault\"\n\
             [[override]]\nrange = \"0-0x20\"\nread = \"ignore\"\nwrite = \"ignore\"\n",
        )
        .unwrap();
        let action = |index, op, reason| policy.action(access(index, op, reason)).0;
        for reason in [Reason::Unknown, Reason::Invalid, Reason::Filter] {
            assert_eq!(action(0x10, MsrOp::Read, reason), PolicyAction::Fault);
            assert_eq!(action(0x10, MsrOp::Write(0), reason), PolicyAction::Ignore);
            assert_eq!(action(0x11, MsrOp::Read, reason), PolicyAction::Ignore);
        }
        assert_eq!(action(0x21, MsrOp::Read, Reason::Unknown), PolicyAction::Stop);
        assert_eq!(action(0x21, MsrOp::Read, Reason::Filter), PolicyAction::Stop);
        assert_eq!(action(0x21, MsrOp::Read, Reason::Invalid), PolicyAction::Ignore);
    }
}
