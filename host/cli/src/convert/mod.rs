//! `wasmsr convert`: another VMM's configuration, or a table, as lines of a profile.

mod firecracker;
mod registers;
mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::Context;
use wasmsr_interface::MsrIndex;

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use firecracker::{Bitmap, MsrModifier, Template};
pub(crate) use registers::registers;

/// Prints profile lines for the MSRs of a Firecracker CPU template, and warns on standard
/// error about what is not converted.
pub(crate) fn firecracker(args: &args::Firecracker) -> Result<Code, Failure> {
    let file = args.template.display();
    let template: Template = fs::read(&args.template)
        .map_err(anyhow::Error::from)
        .and_then(|json| Ok(serde_json::from_slice(&json)?))
        .with_context(|| format!("CPU template {file}"))
        .map_err(Failure::input)?;
    for warning in losses(&template).into_iter().chain(surprises(&template.msr_modifiers)) {
        tracing::warn!("{warning}");
    }
    let msrs = merged(&template.msr_modifiers);
    print(&profile_lines(&msrs)).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// The value of each MSR at boot.
fn merged(modifiers: &[MsrModifier]) -> BTreeMap<u32, Bitmap> {
    let mut msrs: BTreeMap<u32, Bitmap> = BTreeMap::new();
    for MsrModifier { addr, bitmap } in modifiers {
        let changes = msrs.entry(*addr).or_default();
        *changes = changes.then(*bitmap);
    }
    msrs.retain(|_, changes| changes.mask != 0);
    msrs
}

/// The profile's entry for the plugin value-template.
fn profile_lines(msrs: &BTreeMap<u32, Bitmap>) -> String {
    if msrs.is_empty() {
        return "# The CPU template changes no MSR.\n".to_owned();
    }
    let mut text = "[[plugin]]\n\
                    path = \"value_template.wasm\"\n\
                    grant = [\"kvm-msr\"]\n\
                    config.msrs = [\n"
        .to_owned();
    for (&addr, Bitmap { value, mask }) in msrs {
        let name = MsrIndex(addr).name().map(|name| format!("    # {name}\n"));
        let (value, mask) = (number(*value), number(*mask));
        // A `String` takes whatever is written to it.
        let _ = writeln!(
            text,
            "{}    {{ range = {addr:#x}, access = \"none\", apply = \"initial\", \
             value = {value}, mask = {mask} }},",
            name.unwrap_or_default()
        );
    }
    text + "]\n"
}

/// TOML's integers end at 2^63 - 1; plugins take larger numbers as text.
fn number(value: u64) -> String {
    match i64::try_from(value) {
        Ok(_) => format!("{value:#x}"),
        Err(_) => format!("\"{value:#x}\""),
    }
}

/// What is in the template and not in the profile lines.
fn losses(template: &Template) -> Vec<String> {
    let Template { cpuid_modifiers, kvm_capabilities, vcpu_features, reg_modifiers, .. } = template;
    let mut losses = Vec::new();
    if !cpuid_modifiers.is_empty() {
        let leaves = cpuid_modifiers.iter().map(|m| format!("{:#x}.{:#x}", m.leaf, m.subleaf));
        let leaves = leaves.collect::<Vec<_>>().join(", ");
        losses.push(format!(
            "`cpuid_modifiers` is not converted, with leaves {leaves}: CPUID is changed by a \
             plugin's manifest, `[[cpuid]]`"
        ));
    }
    if !kvm_capabilities.is_empty() {
        losses.push(format!(
            "`kvm_capabilities` is not converted, with {}: wasmsr itself checks what it needs of \
             KVM",
            kvm_capabilities.join(", ")
        ));
    }
    for (key, count) in
        [("vcpu_features", vcpu_features.len()), ("reg_modifiers", reg_modifiers.len())]
    {
        if count > 0 {
            losses.push(format!("`{key}` is not converted, {count} in number: it is for Arm"));
        }
    }
    losses
}

/// Where the profile lines do not do what the template seems to do.
fn surprises(modifiers: &[MsrModifier]) -> Vec<String> {
    let mut surprises = Vec::new();
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for modifier in modifiers {
        *counts.entry(modifier.addr).or_default() += 1;
    }
    let msrs = merged(modifiers);
    for (addr, count) in counts {
        let msr = MsrIndex(addr).described();
        if count > 1 {
            surprises.push(format!("{msr} is modified {count} times; the later bits are taken"));
        }
        if !msrs.contains_key(&addr) {
            surprises.push(format!("{msr} is left out: its bitmap changes no bit"));
        } else if OVERWRITTEN.contains(&addr) {
            surprises.push(format!(
                "{msr} gets its value here, but not in Firecracker, which sets it for the boot \
                 afterwards; remove it for the same effect"
            ));
        }
    }
    surprises
}

/// The MSRs that Firecracker sets after the template
/// (`docs/cpu_templates/boot-protocol.md`, `create_boot_msr_entries`).
const OVERWRITTEN: [u32; 11] = [
    0x10,        // IA32_TIME_STAMP_COUNTER
    0x174,       // IA32_SYSENTER_CS
    0x175,       // IA32_SYSENTER_ESP
    0x176,       // IA32_SYSENTER_EIP
    0x1a0,       // IA32_MISC_ENABLE
    0x2ff,       // IA32_MTRR_DEF_TYPE
    0xc000_0081, // IA32_STAR
    0xc000_0082, // IA32_LSTAR
    0xc000_0083, // IA32_CSTAR
    0xc000_0084, // IA32_FMASK
    0xc000_0102, // IA32_KERNEL_GS_BASE
];

#[cfg(test)]
mod tests;
