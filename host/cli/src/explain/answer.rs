//! Who answers an MSR in a profile.

use serde::Serialize;
use wasmsr_interface::{Direction, MsrAccess, MsrIndex, MsrOp, Reason};

use crate::loaded::Checked;

/// Who answers a profile's guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answers {
    pub(crate) reads: Answer,
    pub(crate) writes: Answer,
}

/// Who answers one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Answer {
    /// The plugins that claim it, in the order in which they are asked.
    pub(crate) claimed_by: Vec<String>,
    /// Where KVM does not know it, or the last of them passes: the plugins that ask for
    /// unhandled accesses.
    pub(crate) then_asked: Vec<String>,
    /// The access exits, and KVM is not asked: `default = "deny"`.
    pub(crate) denied: bool,
    /// No filter of KVM's reaches it: an x2APIC register.
    pub(crate) unreachable: bool,
    /// What the profile says last: `fault`, `ignore`, `kernel` or `stop`, and by which key.
    pub(crate) policy: String,
}

impl Answers {
    pub(crate) fn of(index: MsrIndex, loaded: &Checked) -> Self {
        Answers {
            reads: Answer::of(index, Direction::Read, loaded),
            writes: Answer::of(index, Direction::Write, loaded),
        }
    }
}

impl Answer {
    fn of(index: MsrIndex, direction: Direction, loaded: &Checked) -> Self {
        let engine = &loaded.engine;
        let map = engine.map();
        let claims = map
            .iter()
            .filter(|entry| entry.range.contains(index) && entry.directions.contains(direction));
        let unhandled =
            engine.plugins().filter(|plugin| !plugin.manifest.unhandled.reasons.is_empty());
        let op = match direction {
            Direction::Read => MsrOp::Read,
            Direction::Write => MsrOp::Write(0),
        };
        let policy = &loaded.profile.policy;
        let denied = policy.denies(index, direction);
        let reason = if denied { Reason::Filter } else { Reason::Unknown };
        let (action, key) = policy.action(MsrAccess { index, op, reason });
        Answer {
            claimed_by: claims.map(|entry| entry.plugin.to_string()).collect(),
            then_asked: unhandled.map(|plugin| plugin.manifest.plugin.name.clone()).collect(),
            denied,
            unreachable: wasmsr_kvm::filter::x2apic().contains(index),
            policy: format!("{action}, by {key}"),
        }
    }

    /// As a sentence without its subject.
    pub(crate) fn for_people(&self) -> String {
        if self.unreachable {
            return "KVM, since no filter reaches an x2APIC register".to_owned();
        }
        let mut text = match self.claimed_by.as_slice() {
            [] if self.denied => "the policy, since `[msr] allow` does not list it".to_owned(),
            [] => "KVM, if it knows the MSR".to_owned(),
            plugins => format!("plugin {}", plugins.join(", then ")),
        };
        for plugin in &self.then_asked {
            text += &format!("; else {plugin}");
        }
        text + &format!("; else {}", self.policy)
    }
}
