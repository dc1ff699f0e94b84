//! Profile lines for MSRs that a guest asked for: the plugins that know them first, and
//! rules of unknown-log for the rest.

use std::collections::BTreeMap;

use wasmsr_interface::MsrIndex;
use wasmsr_msrs::{Kvm, Shipped, shipped, shipped_for};

use super::log::{Accesses, Seen};
use super::log_line::Speaker;

/// Most MSRs that a comment names.
const MOST_NAMED: usize = 4;

/// What a line has in place of the MSR, if there is to be one for each.
const EACH: &str = "{msr}";

/// Lines that can be put into a profile.
pub(crate) fn profile_lines(accesses: &Accesses) -> String {
    if accesses.msrs.is_empty() {
        return "# nothing names an MSR: there is nothing to add to a profile\n".to_owned();
    }
    // By the plugin's place in the table: one that serves two vendors stands there twice.
    let mut known: BTreeMap<usize, Vec<MsrIndex>> = BTreeMap::new();
    let mut rest: Vec<(MsrIndex, Seen)> = Vec::new();
    let mut text = String::new();
    for (&index, &seen) in &accesses.msrs {
        if let Some(why) = not_a_guests(index, seen) {
            text += &format!("# {}: {why}\n", index.described());
            continue;
        }
        let plugin = shipped_for(index.0).next();
        let place = plugin.and_then(|plugin| shipped().iter().position(|one| one == plugin));
        match place {
            Some(place) => known.entry(place).or_default().push(index),
            None => rest.push((index, seen)),
        }
    }
    let mut used: Vec<&str> = Vec::new();
    for (place, plugin) in shipped().iter().enumerate() {
        let Some(msrs) = known.get(&place) else { continue };
        text += &format!("# {} {}: {}\n", plugin.name, plugin.does, named(msrs));
        match used.contains(&plugin.name) {
            // A guest has one vendor's registers.
            true => {
                text += "# Those of the other vendor are above; a profile has one of the two.\n"
            }
            false => text += &entry(plugin, msrs),
        }
        used.push(plugin.name);
        text.push('\n');
    }
    if !rest.is_empty() {
        text += "# no shipped plugin has the others: reads give 0 or what was written\n\
                 [[plugin]]\npath = \"unknown_log.wasm\"\nconfig.rules = [\n";
        for (index, seen) in rest {
            text += &format!("    {},{}\n", rule(index, seen), comment(index));
        }
        text += "]\n";
    }
    text
}

/// Why an MSR of a log is nothing that a profile has lines for.
fn not_a_guests(index: MsrIndex, seen: Seen) -> Option<&'static str> {
    match seen.speaker {
        Some(Speaker::Qemu) => Some(
            "QEMU set it, and not the guest; wasmsr does not set it, so a profile needs no line",
        ),
        Some(Speaker::Xen | Speaker::Other) if has_it(index) => {
            Some("KVM answers it, so a profile needs no line")
        }
        _ if X2APIC.contains(&index.0) => {
            Some("an x2APIC register, which no filter of KVM's can take: check the guest's CPUID")
        }
        _ => None,
    }
}

/// Whether KVM emulates it in every guest.
fn has_it(index: MsrIndex) -> bool {
    wasmsr_msrs::find(index.0).is_some_and(|msr| msr.kvm == Kvm::Yes)
}

/// KVM does not let a filter take these (KVM api, `KVM_X86_SET_MSR_FILTER`).
const X2APIC: std::ops::RangeInclusive<u32> = 0x800..=0x8ff;

/// The entry of a shipped plugin that is to answer the MSRs.
pub(crate) fn entry(plugin: &Shipped, msrs: &[MsrIndex]) -> String {
    let mut text = format!("[[plugin]]\npath = \"{}\"\n", plugin.file);
    for line in plugin.lines {
        if line.contains(EACH) {
            for &msr in msrs {
                let line = line.replace(EACH, &msr.to_string());
                text += &format!("    {line}{}\n", comment(msr));
            }
        } else {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// A rule of unknown-log: what is written is kept where the guest also reads, so that it
/// finds its own value.
fn rule(index: MsrIndex, seen: Seen) -> String {
    let rest = match (seen.reads > 0, seen.writes > 0) {
        (true, true) => "read = \"stored\", write = \"store\"",
        (false, true) => "write = \"ignore\"",
        _ => "read = \"zero\"",
    };
    format!("{{ range = \"{index}\", {rest} }}")
}

/// The name, and what else than a plugin may help.
fn comment(index: MsrIndex) -> String {
    let Some(msr) = wasmsr_msrs::find(index.0) else { return String::new() };
    match msr.kvm {
        Kvm::If(condition) => format!("   # {}; KVM has it if {condition}", msr.name),
        _ => format!("   # {}", msr.name),
    }
}

fn named(msrs: &[MsrIndex]) -> String {
    let names = msrs.iter().take(MOST_NAMED).map(|msr| msr.described().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    match msrs.len().saturating_sub(MOST_NAMED) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}
