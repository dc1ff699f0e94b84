//! `wasmsr convert`: another VMM's configuration, or a table, as lines of a profile.

mod cloud_hypervisor;
mod cpuid;
mod firecracker;
mod input;
mod lines;
mod normalised;
mod registers;
mod source;
mod static_templates;
mod table;
mod toml_number;
mod vm_config;

use std::collections::BTreeMap;

use anyhow::Context;
use wasmsr_interface::{MsrIndex, RegisterChange};

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use cpuid::{Changes, listed};
use firecracker::{Bitmap, CpuidModifier, MsrModifier, RegisterModifier, Template};
use lines::{changes_text, warn};
use normalised::{normalise, overrule};
pub(crate) use registers::registers;
use source::Source;

pub(crate) use cloud_hypervisor::cloud_hypervisor;

/// Prints profile lines for what a file of Firecracker's says of CPUID, MSRs and the VM,
/// and warns on standard error about what is not converted.
pub(crate) fn firecracker(args: &args::Firecracker) -> Result<Code, Failure> {
    let Source { template, vendor, head, losses: beside } = source::read(&args.template)
        .with_context(|| format!("Firecracker's file {}", args.template.display()))
        .map_err(Failure::input)?;
    let mut changes = changed(&template.cpuid_modifiers);
    let vendor = args.normalise.or(vendor).or_else(|| normalised::vendor(&changes));
    let overruled = overrule(&mut changes, vendor);
    if let Some(vendor) = args.normalise {
        normalise(&mut changes, vendor);
    }
    let mut warnings = beside;
    warnings.extend(losses(&template));
    warnings.extend(surprises(&template.msr_modifiers));
    if !overruled.left_out.is_empty() {
        warnings.push(format!(
            "left out of CPUID, as host and VM decide it, in Firecracker too: {}",
            listed(&overruled.left_out)
        ));
    }
    if !overruled.replaced.is_empty() {
        warnings.push(format!(
            "CPUID is as Firecracker has it, which decides these bits after the template: {}",
            listed(&overruled.replaced)
        ));
    }
    warn(&warnings);
    let msrs = merged(&template.msr_modifiers);
    print(&(head + &changes_text(&changes, &msrs))).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// The changes of CPUID.
fn changed(leaves: &[CpuidModifier]) -> Changes {
    let mut changes = Changes::default();
    for CpuidModifier { leaf, subleaf, modifiers, .. } in leaves {
        for RegisterModifier { register, bitmap } in modifiers {
            // A bitmap of CPUID has no more than 32 bits.
            let bits = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            let set = bits(bitmap.value);
            let change = RegisterChange { set, clear: bits(bitmap.mask) & !set };
            changes.then(*leaf, *subleaf, *register as usize, change);
        }
    }
    changes
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

/// What is in the template and not in the profile lines.
fn losses(template: &Template) -> Vec<String> {
    let Template { cpuid_modifiers, kvm_capabilities, vcpu_features, reg_modifiers, .. } = template;
    let mut losses = Vec::new();
    // What selects by ECX is KVM's to say (`KVM_CPUID_FLAG_SIGNIFCANT_INDEX`).
    let stateful = cpuid_modifiers.iter().filter(|leaf| leaf.flags & !1 != 0);
    let stateful: Vec<String> = stateful
        .map(|leaf| format!("{:#x}.{:#x} {:#x}", leaf.leaf, leaf.subleaf, leaf.flags))
        .collect();
    if !stateful.is_empty() {
        losses.push(format!(
            "`flags` of leaves that change from one CPUID to the next are not converted: {}",
            listed(&stateful)
        ));
    }
    if !kvm_capabilities.is_empty() {
        losses.push(format!(
            "`kvm_capabilities` is not converted, with {}: wasmsr itself checks what it needs of \
             KVM",
            listed(kvm_capabilities)
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
