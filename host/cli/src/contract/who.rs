//! What decides an access to one MSR in one direction, on one host.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wasmsr_engine::MapEntry;
use wasmsr_engine::msr::Policy;
use wasmsr_interface::{
    Direction, ExitList, MsrAccess, MsrIndex, MsrOp, MsrRange, Reason, Unclaimed,
};
use wasmsr_kvm::filter::{highest, x2apic};
use wasmsr_vmm::{DeadlineWrites, TSC_DEADLINE};

use super::host::Host;
use crate::loaded::Checked;
use crate::terminal::plain::plain;

/// What decides an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    decider: Decider,
    /// The plugins that are asked, in their order.
    #[serde(default)]
    plugins: Vec<String>,
    /// What the policy does with what the decider leaves: the access passed on, not
    /// known, or refused.
    otherwise: String,
    /// For people; it makes no difference.
    #[serde(default)]
    note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Decider {
    /// Plugins that claim it.
    Plugin,
    /// KVM, which lists it.
    Kvm,
    /// The processor: KVM lets guests reach the register.
    PassThrough,
    /// KVM if it knows the MSR, which it does not list.
    KvmOrPolicy,
    /// The profile's policy.
    Policy,
    /// KVM, before it looks at the filter.
    Unreachable,
    /// KVM may take it before it looks at the filter, and otherwise plugins that claim it
    /// or the policy decide.
    MaybeUnreachable,
}

impl Decider {
    /// As JSON and people have it.
    fn word(self) -> &'static str {
        match self {
            Decider::Plugin => "plugin",
            Decider::Kvm => "kvm",
            Decider::PassThrough => "pass-through",
            Decider::KvmOrPolicy => "kvm-or-policy",
            Decider::Policy => "policy",
            Decider::Unreachable => "unreachable",
            Decider::MaybeUnreachable => "maybe-unreachable",
        }
    }
}

impl Who {
    fn new(decider: Decider, plugins: Vec<String>, otherwise: String, note: &str) -> Self {
        Who { decider, plugins, otherwise, note: note.to_owned() }
    }

    #[cfg(test)]
    pub(super) fn policy(otherwise: String) -> Self {
        Who::new(Decider::Policy, Vec::new(), otherwise, "")
    }

    #[cfg(test)]
    pub(super) fn kvm(otherwise: String) -> Self {
        Who::new(Decider::Kvm, Vec::new(), otherwise, "")
    }

    pub(super) fn unreachable(otherwise: String, note: &str) -> Self {
        Who::new(Decider::Unreachable, Vec::new(), otherwise, note)
    }

    pub(super) fn otherwise(&self) -> &str {
        &self.otherwise
    }

    pub(super) fn note(&self) -> &str {
        &self.note
    }

    /// What makes a difference.
    pub(super) fn without_note(self) -> Self {
        Who { note: String::new(), ..self }
    }

    /// The decider, with the plugins' names, which may come from a file.
    pub(super) fn decider_for_people(&self) -> String {
        let word = self.decider.word();
        if self.decider == Decider::Plugin {
            return plain(&self.plugins.join(", "));
        }
        match self.plugins.is_empty() {
            true => word.to_owned(),
            false => format!("{word} (then {})", plain(&self.plugins.join(", "))),
        }
    }

    /// Its part of a line of the digest.
    pub(super) fn line(&self) -> String {
        let plugins = match self.plugins.is_empty() {
            true => "-".to_owned(),
            false => self.plugins.join(","),
        };
        format!("{} {plugins} {}", self.decider.word(), self.otherwise)
    }
}

/// Registers that KVM lets guests reach on the processor, on Intel and AMD: IA32_FS_BASE,
/// IA32_GS_BASE and IA32_KERNEL_GS_BASE (`vmx_possible_passthrough_msrs` and
/// `direct_access_msrs` in Linux' arch/x86/kvm).
fn passed_through() -> MsrRange {
    const FIRST: MsrIndex = MsrIndex(0xc000_0100);
    const LAST: MsrIndex = MsrIndex(0xc000_0102);
    MsrRange::new(FIRST, LAST).unwrap_or(FIRST.into())
}

/// What every KVM emulates without listing it: IA32_APIC_BASE, IA32_EFER and the MTRRs
/// (`kvm_get_msr_common` in Linux' arch/x86/kvm/x86.c, `kvm_mtrr_get_msr` in mtrr.c).
fn emulated() -> impl Iterator<Item = MsrRange> {
    const EMULATED: [(u32, u32); 8] = [
        (0x1b, 0x1b),
        (0xfe, 0xfe),
        (0x200, 0x20f),
        (0x250, 0x250),
        (0x258, 0x259),
        (0x268, 0x26f),
        (0x2ff, 0x2ff),
        (0xc000_0080, 0xc000_0080),
    ];
    EMULATED.into_iter().filter_map(|(first, last)| MsrRange::new(MsrIndex(first), MsrIndex(last)))
}

/// All that decides.
pub(super) struct Deciders<'a> {
    host: &'a Host,
    policy: &'a Policy,
    map: Vec<MapEntry>,
    exits: &'a ExitList,
    /// The plugins that are offered what is unhandled.
    unknown: Vec<String>,
    invalid: Vec<String>,
}

impl<'a> Deciders<'a> {
    pub(super) fn of(checked: &'a Checked, host: &'a Host) -> Self {
        let engine = &checked.engine;
        let offered = |reason: Reason| {
            let plugins = engine.plugins().filter(|plugin| {
                let mut reasons = plugin.manifest.unhandled.reasons.iter();
                reasons.any(|&offered| Reason::from(offered) == reason)
            });
            plugins.map(|plugin| plugin.manifest.plugin.name.clone()).collect()
        };
        Deciders {
            host,
            policy: &checked.profile.policy,
            map: engine.map(),
            exits: engine.exits(),
            unknown: offered(Reason::Unknown),
            invalid: offered(Reason::Invalid),
        }
    }

    /// The first MSRs of ranges within which everything is decided alike.
    pub(super) fn edges(&self) -> BTreeSet<u32> {
        let mut ranges = vec![x2apic(), passed_through(), highest().into(), TSC_DEADLINE.into()];
        ranges.extend(self.map.iter().map(|entry| entry.range));
        ranges.extend(self.exits.claims.iter().map(|claim| claim.range));
        ranges.extend(self.policy.overrides.iter().map(|exception| exception.range));
        if let Unclaimed::Exit(allowed) = &self.exits.unclaimed {
            ranges.extend(allowed.iter().map(|one| one.range));
        }
        if let Ok(msrs) = &self.host.msrs {
            ranges.extend(emulated());
            ranges.extend(msrs.iter().map(|&msr| MsrRange::from(msr)));
        }
        let edges = ranges.iter().flat_map(|range| {
            [Some(range.first().0), range.last().0.checked_add(1)].into_iter().flatten()
        });
        edges.collect()
    }

    /// What decides an access at the start of a boot.
    pub(super) fn who(&self, index: MsrIndex, direction: Direction) -> Who {
        let otherwise = |reason| self.action(index, direction, reason);
        let denied = self.exits.unclaimed.exits(index, direction);
        if x2apic().contains(index) {
            let note = "the x2APIC's MSRs are not filtered";
            return Who::unreachable(otherwise(Reason::Invalid), note);
        }
        let claims = self
            .map
            .iter()
            .filter(|entry| entry.range.contains(index) && entry.directions.contains(direction));
        let (on, off): (Vec<_>, Vec<_>) =
            claims.map(|entry| entry.plugin.to_string()).partition(|plugin| {
                self.exits.claims.iter().any(|claim| {
                    *claim.plugin == **plugin
                        && claim.range.contains(index)
                        && claim.directions.contains(direction)
                })
            });
        if (index, direction) == (TSC_DEADLINE, Direction::Write) {
            match self.host.deadline {
                DeadlineWrites::Exit => {}
                DeadlineWrites::MayStay => {
                    let note = "KVM may take these writes before it looks at the filter";
                    let reason = match denied || !on.is_empty() {
                        true => Reason::Filter,
                        false => Reason::Invalid,
                    };
                    return Who::new(Decider::MaybeUnreachable, on, otherwise(reason), note);
                }
                DeadlineWrites::Stay => {
                    let note = "KVM takes these writes before it looks at the filter";
                    return Who::unreachable(otherwise(Reason::Invalid), note);
                }
            }
        }
        if !on.is_empty() {
            return Who::new(Decider::Plugin, on, otherwise(Reason::Filter), "");
        }
        let note = match off.is_empty() {
            true => String::new(),
            false => format!("{} can turn it on", plain(&off.join(", "))),
        };
        if denied {
            return Who::new(Decider::Policy, Vec::new(), otherwise(Reason::Filter), &note);
        }
        if index == highest() {
            let note = "no range of the filter holds it, and KVM does not know it";
            return Who::unreachable(otherwise(Reason::Unknown), note);
        }
        if passed_through().contains(index) {
            let plugins = self.invalid.clone();
            return Who::new(Decider::PassThrough, plugins, otherwise(Reason::Invalid), &note);
        }
        let is_listed =
            self.host.msrs.as_ref().is_ok_and(|msrs| {
                msrs.contains(&index) || emulated().any(|msrs| msrs.contains(index))
            });
        let (decider, plugins, reason) = match is_listed {
            true => (Decider::Kvm, &self.invalid, Reason::Invalid),
            false => (Decider::KvmOrPolicy, &self.unknown, Reason::Unknown),
        };
        Who::new(decider, plugins.clone(), otherwise(reason), &note)
    }

    /// What the policy does with an access that nothing else decides.
    fn action(&self, index: MsrIndex, direction: Direction, reason: Reason) -> String {
        let op = match direction {
            Direction::Read => MsrOp::Read,
            Direction::Write => MsrOp::Write(0),
        };
        self.policy.action(MsrAccess { index, op, reason }).0.to_string()
    }
}
