//! Which accesses the user wants to see.

use wasmsr_engine::record::{Access, Ended, Line, Op};

use crate::args::{AccessFilter, FilterOp, FilterOutcome};

/// What `--plugin` calls accesses that no plugin decided.
pub(crate) const POLICY: &str = "policy";

impl AccessFilter {
    /// Whether a line is to be seen. Lines that are no accesses tell where the
    /// others are, and stay; but wakes of timers are no answer to a question
    /// for accesses.
    pub(crate) fn takes(&self, boot: u64, line: &Line) -> bool {
        if self.boot.is_some_and(|wanted| wanted != boot) {
            return false;
        }
        match line {
            Line::Access(access) => self.takes_access(access),
            Line::Wake(wake) => self.is_for_vcpus() && self.takes_vcpu(wake.vcpu),
            Line::Boot(_) | Line::Start(_) | Line::Dropped(_) | Line::End(_) => true,
        }
    }

    /// The options in use, as they were typed, to be printed.
    pub(crate) fn described(&self) -> Vec<String> {
        let list = |name: &str, values: Vec<String>| match values.is_empty() {
            true => None,
            false => Some(format!("--{name} {}", values.join(","))),
        };
        let numbers = |value: Option<u64>| value.map(|value| value.to_string()).into_iter();
        let outcomes = self.outcome.iter().map(|outcome| outcome.name().to_owned());
        let op = self.op.map(|op| if op == FilterOp::Read { "read" } else { "write" });
        [
            list("msr", self.msr.iter().map(ToString::to_string).collect()),
            list("vcpu", numbers(self.vcpu.map(u64::from)).collect()),
            list("outcome", outcomes.collect()),
            list("plugin", self.plugin.clone()),
            list("op", op.map(str::to_owned).into_iter().collect()),
            list("boot", numbers(self.boot).collect()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn takes_access(&self, access: &Access) -> bool {
        let any = |wanted: &[_], matches: &dyn Fn(&_) -> bool| {
            wanted.is_empty() || wanted.iter().any(matches)
        };
        self.takes_vcpu(access.vcpu)
            && (self.msr.is_empty() || self.msr.iter().any(|range| range.contains(access.msr)))
            && any(&self.outcome, &|wanted: &FilterOutcome| wanted.takes(access))
            && (self.plugin.is_empty()
                || self.plugin.iter().any(|wanted| match &access.plugin {
                    Some(plugin) => plugin == wanted,
                    None => wanted == POLICY,
                }))
            && self.op.is_none_or(|wanted| wanted.takes(access.op))
    }

    fn takes_vcpu(&self, vcpu: u32) -> bool {
        self.vcpu.is_none_or(|wanted| wanted == vcpu)
    }

    fn is_for_vcpus(&self) -> bool {
        self.msr.is_empty()
            && self.outcome.is_empty()
            && self.plugin.is_empty()
            && self.op.is_none()
    }
}

impl FilterOp {
    fn takes(self, op: Op) -> bool {
        matches!((self, op), (FilterOp::Read, Op::Read) | (FilterOp::Write, Op::Write))
    }
}

impl FilterOutcome {
    fn takes(self, access: &Access) -> bool {
        match self {
            FilterOutcome::Handled => access.outcome == Ended::Handled,
            FilterOutcome::Fault => access.outcome == Ended::Fault,
            FilterOutcome::Kernel => access.outcome == Ended::Kernel,
            FilterOutcome::Stop => access.outcome == Ended::Stop,
            FilterOutcome::Failed => access.failed,
        }
    }

    fn name(self) -> &'static str {
        match self {
            FilterOutcome::Handled => "handled",
            FilterOutcome::Fault => "fault",
            FilterOutcome::Kernel => "kernel",
            FilterOutcome::Stop => "stop",
            FilterOutcome::Failed => "failed",
        }
    }
}
