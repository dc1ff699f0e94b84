//! What becomes of an unhandled access: one that no plugin takes.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::Deserialize;
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::{
    Allowed, Direction, Directions, MsrAccess, MsrIndex, MsrRange, Outcome, Reason, Unclaimed,
};

use super::allow::{AllowEntry, AllowTable, MsrDefault};

/// The profile's `[msr]` table: a per-VM `ignore_msrs`, by reason, MSR and
/// direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// what becomes of accesses that no plugin claims: `"allow"`: KVM answers
    /// them as far as it can; `"deny"`: all but those in `allow` are decided by
    /// `unknown` and `override`, see [A contract for every MSR](contract.md)
    pub default: MsrDefault,
    /// with `default = "deny"`: the MSRs that stay with KVM, each
    /// `"0x277"`, `"0xc0000080-0xc0000084"` or
    /// `{ range = "0x10", access = "r" }`
    #[cfg_attr(test, serde(skip_serializing), schemars(extend("default" = [])))]
    pub allow: Vec<AllowEntry>,
    /// an access to an MSR that KVM does not know, that `default = "deny"`
    /// takes from KVM, or that every plugin which claims it has passed on
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
    /// KVM's own answer; a #GP if it was KVM that refused the access
    Kernel,
    /// the run ends with exit code 10 and a sentence that names the MSR, the value of a
    /// write and the guest's RIP
    Stop,
}

impl Policy {
    /// What is wrong with the tables as a whole.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.default == MsrDefault::Allow && !self.allow.is_empty() {
            mistakes.push(
                "[msr] `allow` says nothing while all MSRs are allowed; add `default = \"deny\"`, \
                 or take `allow` out"
                    .to_owned(),
            );
        }
        let silent = self.overrides.iter().filter(|o| o.read.is_none() && o.write.is_none());
        mistakes.extend(silent.map(|exception| {
            format!(
                "[[msr.override]] {}: says neither `read` nor `write`; add one",
                exception.range
            )
        }));
        mistakes
    }

    /// What becomes of the accesses that no plugin claims.
    pub fn unclaimed(&self) -> Unclaimed {
        match self.default {
            MsrDefault::Allow => Unclaimed::Kernel,
            MsrDefault::Deny => {
                Unclaimed::Exit(self.allow.iter().map(|&entry| entry.into()).collect())
            }
        }
    }

    /// Leaves more MSRs to KVM, if it has not all of them anyway.
    pub(crate) fn allow_also(&mut self, range: MsrRange, access: Directions) {
        if self.is_deny() {
            self.allow.push(AllowEntry::Table(AllowTable { range, access }));
        }
    }

    /// Whether some accesses exit that no plugin claims.
    pub(crate) fn is_deny(&self) -> bool {
        self.default == MsrDefault::Deny
    }

    /// Whether an access exits even if no plugin claims it.
    pub fn denies(&self, index: MsrIndex, direction: Direction) -> bool {
        let is_allowed = |entry: &AllowEntry| {
            let Allowed { range, directions } = (*entry).into();
            range.contains(index) && directions.contains(direction)
        };
        self.is_deny() && !self.allow.iter().any(is_allowed)
    }

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
            (PolicyAction::Kernel, _) => match access.reason {
                Reason::Filter => Outcome::Kernel,
                // KVM has refused it, and that is its answer.
                Reason::Unknown | Reason::Invalid => Outcome::Fault,
            },
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
            PolicyAction::Kernel => "kernel",
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
    fn what_is_allowed_stays_with_kvm_and_all_else_is_denied() {
        let policy: Policy = crate::toml_file::parse(
            "default = \"deny\"\nallow = [\"0x10\", 0x20, { range = \"0x30-0x3f\", access = \"r\" }]\n",
        )
        .unwrap();
        for (index, read, write) in
            [(0x10, false, false), (0x20, false, false), (0x35, false, true), (0x40, true, true)]
        {
            for (direction, denied) in [(Direction::Read, read), (Direction::Write, write)] {
                assert_eq!(policy.denies(MsrIndex(index), direction), denied, "{index:#x}");
                assert_eq!(policy.unclaimed().exits(MsrIndex(index), direction), denied);
            }
        }
        assert!(!Policy::default().denies(MsrIndex(0x40), Direction::Read));
        assert!(policy.mistakes().is_empty());
    }

    #[test]
    fn mistakes_in_the_list_are_named() {
        let parse = |allow: &str| {
            crate::toml_file::parse::<Policy>(&format!("default = \"deny\"\nallow = {allow}\n"))
        };
        for (allow, part) in [
            ("[\"0x20-0x10\"]", "runs backwards"),
            ("[\"0x100000000\"]", "32 bits"),
            ("[-1]", "`-1`"),
            ("[true]", "a table with `range` and `access`"),
            ("[{ range = 1, acces = \"r\" }]", "did you mean `access`?"),
            ("[{ access = \"r\" }]", "missing field `range`"),
            ("\"0x10\"", "expected a sequence"),
        ] {
            let error = parse(allow).unwrap_err();
            assert!(error.message.contains(part), "{allow}: {error}");
        }
        let idle: Policy = crate::toml_file::parse("allow = [1]\n").unwrap();
        assert!(idle.mistakes()[0].contains("add `default = \"deny\"`"));
    }

    #[test]
    fn the_kernels_answer_is_a_fault_where_it_has_refused() {
        let policy = Policy {
            unknown: PolicyAction::Kernel,
            invalid: PolicyAction::Kernel,
            ..Policy::default()
        };
        let decide = |reason| policy.decide(access(0x10, MsrOp::Write(1), reason));
        assert_eq!(decide(Reason::Filter), Outcome::Kernel);
        assert_eq!(decide(Reason::Unknown), Outcome::Fault);
        assert_eq!(decide(Reason::Invalid), Outcome::Fault);
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
