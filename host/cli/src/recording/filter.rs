//! Which accesses of a recording are chosen.

use wasmsr_engine::record::{AccessLine, Line, Op, PluginCall};
use wasmsr_interface::OutcomeKind;

use crate::args::{AccessFilter, FilterOp, FilterOutcome};
use crate::terminal::words::FAILED;

/// The name for the policy in `--plugin`.
pub(crate) const POLICY: &str = "policy";

impl AccessFilter {
    /// Whether a line is chosen. Boots, gaps and the swaps up to a chosen generation always
    /// are, since they show where the accesses are. Timers are chosen unless there is a condition for accesses.
    pub(crate) fn takes(&self, boot: u64, line: &Line) -> bool {
        if !self.takes_boot(boot) {
            return false;
        }
        match line {
            Line::Access(access) => self.takes_deed(access) && self.takes_answer(access),
            Line::Wake(wake) => {
                let failed = wake.failed.iter().any(|name| self.takes_failure(line, name));
                (self.is_for_vcpus() || failed)
                    && self.takes_vcpu(wake.vcpu)
                    && self.takes_generation(wake.generation)
            }
            Line::Swap(swap) => self.generation.is_none_or(|wanted| swap.generation <= wanted),
            Line::Boot(_) | Line::Start(_) | Line::Dropped(_) | Line::End(_) => true,
        }
    }

    /// Whether a host call of a chosen line is counted: if its plugin is chosen. A call
    /// at the start or a swap counts only if there is no condition for accesses.
    pub(crate) fn takes_call(&self, line: &Line, call: &PluginCall) -> bool {
        match line {
            Line::Start(_) | Line::Swap(_) => self.is_for_vcpus() && self.vcpu.is_none(),
            _ => self.plugin.is_empty() || self.plugin.contains(&call.plugin),
        }
    }

    /// Whether a failure of a plugin at no access counts, in a line that is chosen.
    pub(crate) fn takes_failure(&self, line: &Line, plugin: &str) -> bool {
        let takes_plugin = self.plugin.is_empty() || self.plugin.iter().any(|p| p == plugin);
        let of_accesses = !self.msr.is_empty() || self.op.is_some();
        let takes_failed = self.outcome.is_empty() || self.outcome.contains(&FilterOutcome::Failed);
        let of_vcpus = self.vcpu.is_some() && matches!(line, Line::End(_));
        takes_plugin && takes_failed && !of_accesses && !of_vcpus
    }

    /// The options in use, as they were typed.
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
            list("generation", numbers(self.generation).collect()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Whether a boot is chosen.
    pub(crate) fn takes_boot(&self, boot: u64) -> bool {
        self.boot.is_none_or(|wanted| wanted == boot)
    }

    /// Whether an access is chosen for what the guest did.
    pub(crate) fn takes_deed(&self, access: &AccessLine) -> bool {
        self.takes_vcpu(access.vcpu)
            && self.takes_generation(access.generation)
            && (self.msr.is_empty() || self.msr.iter().any(|range| range.contains(access.msr)))
            && self.op.is_none_or(|wanted| wanted.takes(access.op))
    }

    /// Whether an access is chosen for its outcome and the plugin that decided it.
    pub(crate) fn takes_answer(&self, access: &AccessLine) -> bool {
        let plugin = access.plugin.as_deref().unwrap_or(POLICY);
        (self.outcome.is_empty() || self.outcome.iter().any(|wanted| wanted.takes(access)))
            && (self.plugin.is_empty() || self.plugin.iter().any(|wanted| wanted == plugin))
    }

    fn takes_vcpu(&self, vcpu: u32) -> bool {
        self.vcpu.is_none_or(|wanted| wanted == vcpu)
    }

    fn takes_generation(&self, generation: u64) -> bool {
        self.generation.is_none_or(|wanted| wanted == generation)
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
    fn takes(self, access: &AccessLine) -> bool {
        match self.kind() {
            Some(kind) => access.outcome == kind,
            None => access.failed,
        }
    }

    fn name(self) -> &'static str {
        self.kind().map_or(FAILED, OutcomeKind::name)
    }

    /// The outcome; `None` for failures, which may have any.
    fn kind(self) -> Option<OutcomeKind> {
        match self {
            FilterOutcome::Value => Some(OutcomeKind::Value),
            FilterOutcome::Ok => Some(OutcomeKind::Done),
            FilterOutcome::Fault => Some(OutcomeKind::Fault),
            FilterOutcome::Kernel => Some(OutcomeKind::Kernel),
            FilterOutcome::Stop => Some(OutcomeKind::Stop),
            FilterOutcome::Failed => None,
        }
    }
}
