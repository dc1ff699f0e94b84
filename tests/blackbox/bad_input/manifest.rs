//! A plugin's manifest, by itself and against profile and hypervisor.

use super::{BASICS, GOOD, NOSY, READ, refuses_entry, refuses_plugins, refuses_wasm};
use crate::fixture::{Outcome, Plugin, apply, module, module_with_manifest, test};

#[apply(test)]
fn plugin_without_manifest() -> Outcome {
    refuses_wasm(&module(&format!("{BASICS} {READ}")), &["wasmsr.manifest"])
}

#[apply(test)]
fn manifest_that_is_not_toml() -> Outcome {
    refuses_manifest("msr: none", &["manifest", "line 1"])
}

#[apply(test)]
fn unknown_key_in_a_manifest() -> Outcome {
    refuses_manifest(
        r#"msr = [{ range = "0x1000", acess = "r" }]"#,
        &["manifest", "line 1", "`acess`", "`access`"],
    )
}

#[apply(test)]
fn plugin_for_another_abi() -> Outcome {
    let manifest = GOOD.manifest_text().replace("abi = 1", "abi = 7");
    refuses_wasm(&module_with_manifest(&manifest, &format!("{BASICS} {READ}")), &["ABI 7", "ABI 1"])
}

#[apply(test)]
fn backwards_range() -> Outcome {
    refuses_manifest(
        r#"msr = [{ range = "0x2000-0x1000", access = "r" }]"#,
        &["manifest", "line 1", "0x2000-0x1000", "backwards"],
    )
}

#[apply(test)]
fn msr_of_more_than_32_bits() -> Outcome {
    refuses_manifest(
        r#"msr = [{ range = "0x123456789", access = "r" }]"#,
        &["manifest", "line 1", "0x123456789", "32 bits"],
    )
}

#[apply(test)]
fn msr_that_kvm_cannot_filter() -> Outcome {
    refuses_plugins(
        &[Plugin {
            name: "x2apic",
            manifest: r#"msr = [{ range = "0x830", access = "r" }]"#,
            code: READ,
        }],
        &["x2apic", "0x830", "0x800-0x8ff"],
    )
}

#[apply(test)]
fn too_many_ranges_for_the_filter() -> Outcome {
    // Seventeen MSRs, each further from the next than one filter range spans.
    let claims: String =
        (0..17).map(|n| format!("{{ range = \"{:#x}\" }},", 0x1000_0000 + n * 0x10_0000)).collect();
    let manifest = format!("msr = [{claims}]\n").leak();
    let code = "(reads i64.const 1) (writes)";
    refuses_plugins(&[Plugin { name: "scattered", manifest, code }], &["scattered", "16", "0x1"])
}

#[apply(test)]
fn capability_that_is_not_granted() -> Outcome {
    let manifest = format!("needs.capabilities = [\"guest-memory\"]\n{}", GOOD.manifest_text());
    refuses_wasm(
        &module_with_manifest(&manifest, &format!("{NOSY} {BASICS} {READ}")),
        &["guest-memory", "grant"],
    )
}

#[apply(test)]
fn host_msr_that_is_not_granted() -> Outcome {
    let manifest =
        format!("needs.capabilities = [\"host-msr:0x606-0x612\"]\n{}", GOOD.manifest_text());
    refuses_entry(
        &module_with_manifest(&manifest, &format!("{BASICS} {READ}")),
        "grant = [\"host-msr:0x606-0x611\"]",
        &["host-msr:0x606-0x612", "grant"],
    )
}

/// This manifest must be refused in an otherwise good plugin.
#[track_caller]
fn refuses_manifest(manifest: &'static str, parts: &[&str]) -> Outcome {
    refuses_wasm(&Plugin { name: "bad", manifest, code: READ }.wasm(), parts)
}
