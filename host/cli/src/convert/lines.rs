//! What a conversion prints: lines of a profile, and warnings.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use wasmsr_interface::MsrIndex;

use super::cpuid::Changes;
use super::firecracker::Bitmap;
use super::toml_number::number;

/// `[[cpuid]]` and `[[plugin]]`, or that there is nothing.
pub(super) fn changes_text(changes: &Changes, msrs: &BTreeMap<u32, Bitmap>) -> String {
    let tables = changes.tables();
    match (tables.is_empty(), msrs.is_empty()) {
        (true, true) => "# It changes neither CPUID nor an MSR.\n".to_owned(),
        (false, true) => tables.trim_end().to_owned() + "\n",
        _ => tables + &profile_lines(msrs),
    }
}

/// Warns of each, within a bound.
pub(super) fn warn(warnings: &[String]) {
    const MOST: usize = 64;
    for warning in warnings.iter().take(MOST) {
        tracing::warn!("{warning}");
    }
    if warnings.len() > MOST {
        tracing::warn!("{} warnings more", warnings.len() - MOST);
    }
}

/// The profile's entry for the plugin value-template.
pub(super) fn profile_lines(msrs: &BTreeMap<u32, Bitmap>) -> String {
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
