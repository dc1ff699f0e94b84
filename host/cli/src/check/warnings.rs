//! What of a profile works otherwise than it may be meant, though nothing is wrong.

use std::collections::BTreeSet;

use wasmsr_engine::manifest::Intercept;
use wasmsr_interface::{Direction, Unclaimed};
use wasmsr_vmm::{TSC_DEADLINE, deadline_writes, hides_deadline_mode};

use crate::loaded::Checked;

/// A line for each.
pub(super) fn of(checked: &Checked) -> Vec<String> {
    deadline(checked).into_iter().chain(turned_off(checked)).collect()
}

/// Writes of IA32_TSC_DEADLINE that are to exit, and do not on this host.
fn deadline(checked: &Checked) -> Vec<String> {
    if hides_deadline_mode(checked.engine.cpuid()) {
        return Vec::new();
    }
    let exits = checked.engine.exits();
    let claims = exits.claims.iter().filter(|claim| {
        claim.range.contains(TSC_DEADLINE) && claim.directions.contains(Direction::Write)
    });
    let plugins: BTreeSet<&str> = claims.map(|claim| &*claim.plugin).collect();
    let mut what: Vec<String> =
        plugins.into_iter().map(|plugin| format!("plugin `{plugin}` claims")).collect();
    if what.is_empty() && exits.unclaimed.exits(TSC_DEADLINE, Direction::Write) {
        what.push("[msr] default = \"deny\" takes from KVM".to_owned());
    }
    what.iter().filter_map(|what| deadline_writes().warning(what)).collect()
}

/// Claims that a plugin turns off, or that are off, and that are then not KVM's.
fn turned_off(checked: &Checked) -> Vec<String> {
    let unclaimed = &checked.engine.exits().unclaimed;
    if *unclaimed == Unclaimed::Kernel {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for plugin in checked.engine.plugins() {
        let off = plugin.manifest.msr.iter().filter(|claim| claim.intercept == Intercept::Off);
        let denied = off.filter(|claim| {
            [Direction::Read, Direction::Write].into_iter().any(|direction| {
                claim.access.contains(direction)
                    && [claim.range.first(), claim.range.last()]
                        .into_iter()
                        .any(|msr| unclaimed.exits(msr, direction))
            })
        });
        let ranges: Vec<String> = denied.take(8).map(|claim| claim.range.to_string()).collect();
        if !ranges.is_empty() {
            warnings.push(format!(
                "plugin `{}` claims {} with intercept = \"off\": while they are off the policy \
                 decides them, not KVM; list them in [msr] `allow` to leave them to KVM",
                plugin.manifest.plugin.name,
                ranges.join(", ")
            ));
        }
    }
    warnings
}
