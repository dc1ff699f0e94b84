//! The rows as static arrays of Rust.

use std::fmt::{self, Write as _};

use super::plugins::Plugin;
use super::read::Row;

pub(crate) fn arrays(rows: &[Row], out: &mut String) -> fmt::Result {
    let count = rows.len();
    // The compact half, which plugins carry: no pointers, so no relocations or padding.
    writeln!(out, "static INDICES: [u32; {count}] = {:?};", indices(rows))?;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    text(out, "NAME", &names)?;
    let mut by_name: Vec<u16> = (0..count).filter_map(|at| u16::try_from(at).ok()).collect();
    by_name.sort_by_key(|&at| rows.get(usize::from(at)).map(|row| row.name.to_ascii_lowercase()));
    writeln!(out, "static BY_NAME: [u16; {count}] = {by_name:?};")?;
    let mut aliases: Vec<(&str, usize)> = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        aliases.extend(row.aliases.iter().map(|alias| (alias.as_str(), at)));
    }
    aliases.sort_by_key(|(alias, _)| alias.to_ascii_lowercase());
    text(out, "ALIAS", &aliases.iter().map(|(alias, _)| *alias).collect::<Vec<_>>())?;
    let of: Vec<usize> = aliases.iter().map(|&(_, at)| at).collect();
    writeln!(out, "static ALIAS_OF: [u16; {}] = {of:?};", of.len())?;

    writeln!(out, "static MSRS: [Msr; {count}] = [")?;
    for row in rows {
        writeln!(
            out,
            "Msr {{ index: {:#x}, name: {:?}, aliases: &{:?}, vendor: Vendor::{}, \
             access: Access::{}, reserved: {:?}, scope: {}, kvm: {}, host: {:?}, note: {:?}, \
             wanted: {:?}, source: {:?} }},",
            row.index,
            row.name,
            row.aliases,
            capital(&row.vendor),
            match row.access.as_str() {
                "r" => "Read",
                "w" => "Write",
                _ => "ReadWrite",
            },
            row.reserved,
            match row.scope.as_str() {
                "-" => "None".to_owned(),
                scope => format!("Some(Scope::{})", capital(scope)),
            },
            row.kvm,
            row.host,
            row.note,
            row.wanted,
            row.source,
        )?;
    }
    writeln!(out, "];")
}

pub(crate) fn shipped(plugins: &[Plugin], out: &mut String) -> fmt::Result {
    writeln!(out, "static SHIPPED: &[Shipped] = &[")?;
    for Plugin { name, file, does, lines, msrs } in plugins {
        writeln!(
            out,
            "Shipped {{ name: {name:?}, file: {file:?}, does: {does:?}, lines: &{lines:?}, \
             msrs: &{msrs:?} }},"
        )?;
    }
    writeln!(out, "];")
}

fn indices(rows: &[Row]) -> Vec<u32> {
    rows.iter().map(|row| row.index).collect()
}

/// Texts behind each other, and where each of them ends.
fn text(out: &mut String, what: &str, texts: &[&str]) -> fmt::Result {
    let mut end = 0;
    let ends: Vec<usize> = texts
        .iter()
        .map(|text| {
            end += text.len();
            end
        })
        .collect();
    writeln!(out, "static {what}_TEXT: &str = {:?};", texts.concat())?;
    writeln!(out, "static {what}_ENDS: [u32; {}] = {ends:?};", ends.len())
}

fn capital(word: &str) -> String {
    match word {
        "hyperv" => "HyperV".to_owned(),
        _ => word
            .split_at_checked(1)
            .map_or(String::new(), |(first, rest)| first.to_uppercase() + rest),
    }
}
