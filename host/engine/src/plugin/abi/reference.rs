//! The tables of `docs/abi.md`.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use wasmsr_book::generated;
use wasmsr_interface::Direction;

use super::numbers::{Number, OUTCOMES, REASONS};
use super::{EXPORTS, Export, IMPORTS, Import, Needed};
use crate::limits;
use crate::manifest::CAPABILITIES;
use crate::profile::{DEFAULT_FUEL, DEFAULT_MEMORY};

#[track_caller]
fn hold(name: &str, head: &str, rows: impl IntoIterator<Item = String>) {
    let columns = head.matches('|').count() - 1;
    let rule = format!("|{}", "---|".repeat(columns));
    let rows: Vec<String> = rows.into_iter().collect();
    generated::hold("docs/abi.md", name, &format!("{head}\n{rule}\n{}", rows.join("\n")));
}

#[test]
fn the_reference_is_current() {
    let export = |Export { name, signature, needed, meaning }: &Export| {
        let needed = match needed {
            Needed::Always => "always",
            Needed::For(Direction::Read) => "for a manifest with `r`",
            Needed::For(Direction::Write) => "for a manifest with `w`",
            Needed::No => "no",
        };
        format!("| `{name}` | `{signature}` | {needed} | {meaning} |")
    };
    hold("exports", "| export | type | needed | meaning |", EXPORTS.iter().map(export));

    let call = |Import { name, signature, capability, meaning, .. }: &Import| {
        let capability = capability.map(|name| format!("`{name}`")).unwrap_or_default();
        format!("| `{name}` | `{signature}` | {capability} | {meaning} |")
    };
    hold("host calls", "| import | type | capability | meaning |", IMPORTS.iter().map(call));

    let number = |Number { value, meaning, .. }: &Number| format!("| {value} | {meaning} |");
    hold("reasons", "| `reason` | meaning |", REASONS.iter().map(number));
    hold("outcomes", "| `kind` | the access becomes |", OUTCOMES.iter().map(number));

    let mut costs: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for Import { name, fuel, .. } in IMPORTS {
        costs.entry(fuel).or_default().push(format!("`{name}`"));
    }
    let cost = |(fuel, calls): (_, Vec<String>)| format!("| {} | {fuel} |", calls.join(", "));
    hold("fuel", "| call | fuel |", costs.into_iter().map(cost));

    let kib = |bytes: usize| format!("{} KiB", bytes >> 10);
    let limits = [
        (
            "fuel of one access, or one call of `timer`",
            format!("the profile's `fuel`, by default {DEFAULT_FUEL}"),
        ),
        ("fuel of any other call", format!("{} times that", limits::LIFECYCLE_FUEL)),
        (
            "linear memory",
            format!(
                "the profile's `memory`, by default {} MiB",
                DEFAULT_MEMORY.as_u64() / ByteSize::mib(1).as_u64()
            ),
        ),
        ("code of a function", kib(limits::FUNCTION)),
        ("memories", limits::MEMORIES.to_string()),
        (
            "tables",
            format!("{}, of at most {} elements each", limits::TABLES, limits::TABLE_ELEMENTS),
        ),
        ("stack of a call, outside linear memory", kib(limits::STACK)),
        ("saved state of an instance", kib(limits::SAVED_STATE)),
        ("pieces into which a plugin may cut its intercepts", limits::PIECES.to_string()),
        (
            "lines in the log",
            format!(
                "{} of an instance at once and {} a second after that, of at most {} bytes",
                limits::LOG_BURST,
                limits::LOG_PER_SECOND,
                limits::LOG_LINE
            ),
        ),
        ("report of an instance", kib(limits::REPORT)),
    ];
    let limit = |(what, limit)| format!("| {what} | {limit} |");
    hold("limits", "| what | limit |", limits.map(limit));
}

/// Texts name the limits that hold.
#[test]
fn texts_have_the_limits() {
    for (name, limit) in limits::of_calls() {
        let call = IMPORTS.iter().find(|call| call.name == name).unwrap();
        assert!(call.meaning.contains(&limit), "{name}: no {limit} in: {}", call.meaning);
    }
    let counted = format!("at most {}", limits::HOST_FILE);
    assert!(super::fuel::FILE.to_string().contains(&counted));
}

#[test]
fn each_documented_capability_serves_host_calls() {
    let names = CAPABILITIES.iter().map(|(form, _)| form.split(':').next().unwrap());
    let mut needed: Vec<_> = IMPORTS.iter().filter_map(|import| import.capability).collect();
    needed.dedup();
    assert_eq!(needed, names.collect::<Vec<_>>());
}
