//! Tables for people.

use std::cmp::Reverse;
use std::ptr;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use wasmsr_interface::{MsrRange, counted};
use wasmsr_stats::{OTHERS, POLICY, Row, Shadow};

/// A table with a head and aligned columns, without lines. `right` has the columns
/// that are aligned to the right.
pub(crate) fn table<'a>(head: impl IntoIterator<Item = &'a str>, right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A range's name: the name of its only MSR, or of its first one with `…`.
pub(crate) fn range_name(range: MsrRange) -> String {
    match (range.first().name(), range.count()) {
        (Some(name), 1) => name.to_owned(),
        (Some(name), _) => format!("{name} …"),
        (None, _) => "-".to_owned(),
    }
}

/// Most rows of MSRs that are unhandled; the most frequent are shown. A guest that
/// probes hundreds of MSRs must not bury the plugins' rows.
const POLICY_ROWS: usize = 16;

/// A column of the table of accesses: its title and its cells.
type Column = (&'static str, fn(&Row) -> String);

const COLUMNS: [Column; 9] = [
    ("MSR", |row| row.msr.clone().unwrap_or(OTHERS.to_owned())),
    ("NAME", |row| row.name.clone().unwrap_or("-".to_owned())),
    ("PLUGIN", |row| row.plugin.clone().unwrap_or(POLICY.to_owned())),
    ("READS", |row| row.reads.to_string()),
    ("WRITES", |row| row.writes.to_string()),
    ("FAULTS", |row| row.faults.to_string()),
    ("FAILURES", |row| row.failures.to_string()),
    ("MEAN TIME", |row| time(row.mean_ns)),
    ("P99", |row| time(row.p99_ns)),
];

const FUEL: Column = ("FUEL", |row| row.mean_fuel.map_or("-".to_owned(), |fuel| fuel.to_string()));

/// The guest's MSR accesses, after a boot.
pub(crate) fn accesses(rows: &[Row]) -> String {
    counts_table(rows, &COLUMNS)
}

/// The same while the VM runs, with the plugins' fuel.
pub(crate) fn statistics(rows: &[Row]) -> String {
    let columns: Vec<Column> = COLUMNS.into_iter().chain([FUEL]).collect();
    counts_table(rows, &columns)
}

fn counts_table(rows: &[Row], columns: &[Column]) -> String {
    if rows.is_empty() {
        return "no MSR access left the kernel".to_owned();
    }
    let is_probed = |row: &Row| row.plugin.is_none() && row.msr.is_some();
    let mut probed: Vec<&Row> = rows.iter().filter(|row| is_probed(row)).collect();
    probed.sort_by_key(|row| Reverse(row.accesses()));
    let unshown = probed.split_off(probed.len().min(POLICY_ROWS));
    let numbers: Vec<usize> = (3..columns.len()).collect();
    let mut table = table(columns.iter().map(|(title, _)| *title), &numbers);
    for row in rows.iter().filter(|row| !unshown.iter().any(|hidden| ptr::eq(*hidden, *row))) {
        table.add_row(columns.iter().map(|(_, cell)| cell(row)));
    }
    match unshown.len() {
        0 => table.trim_fmt(),
        more => {
            let more = counted(more, "more MSR", "more MSRs");
            format!("{}\n and {more} that no plugin handles", table.trim_fmt())
        }
    }
}

/// How the shadows compare with the plugins in charge.
pub(crate) fn shadows(shadows: &[Shadow]) -> String {
    let head = [
        "SHADOW",
        "OF",
        "ACCESSES",
        "ANSWERS",
        "EFFECTS",
        "UNCLAIMED",
        "FAILURES",
        "FUEL",
        "IN CHARGE",
        "TIME ADDED",
    ];
    let fuel = |mean: Option<u64>| mean.map_or("-".to_owned(), |fuel| fuel.to_string());
    let mut table = table(head, &[2, 3, 4, 5, 6, 7, 8, 9]);
    for shadow in shadows {
        table.add_row([
            format!("{} {}", shadow.plugin, shadow.version),
            shadow.of.clone(),
            shadow.accesses.to_string(),
            shadow.answers.to_string(),
            shadow.effects.to_string(),
            shadow.unclaimed.to_string(),
            shadow.failures.to_string(),
            fuel(shadow.mean_fuel),
            fuel(shadow.mean_fuel_in_charge),
            time(shadow.mean_ns),
        ]);
    }
    let mut text = table.trim_fmt();
    for shadow in shadows.iter().filter(|shadow| shadow.not_compared > 0) {
        text += &format!(
            "\n\n{} {} (of {}): {} not compared",
            shadow.plugin,
            shadow.version,
            shadow.of,
            counted(shadow.not_compared, "access was", "accesses were"),
        );
    }
    for shadow in shadows.iter().filter(|shadow| !shadow.examples.is_empty()) {
        text += &format!("\n\n{} {} differs from {}:", shadow.plugin, shadow.version, shadow.of);
        for example in &shadow.examples {
            text += &format!("\n {example}");
        }
    }
    text
}

/// A time that may be unknown, from nanoseconds.
fn time(known: Option<u64>) -> String {
    known.map_or("-".to_owned(), nanos)
}

/// A number of nanoseconds in few characters.
pub(crate) fn nanos(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{} µs", nanos / 1_000),
        10_000_000..10_000_000_000 => format!("{} ms", nanos / 1_000_000),
        _ => format!("{} s", nanos / 1_000_000_000),
    }
}

/// A span of time in few characters, from seconds.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(msr: Option<u32>, plugin: Option<&str>, reads: u64) -> Row {
        Row {
            msr: msr.map(|msr| format!("{msr:#x}")),
            plugin: plugin.map(str::to_owned),
            reads,
            ..Row::default()
        }
    }

    #[test]
    fn msrs_that_are_probed_do_not_bury_plugins() {
        let probed = (0..100).map(|msr| row(Some(msr), None, u64::from(msr)));
        let sums = [row(None, None, 1), row(None, Some("p"), 1)];
        let rows: Vec<Row> = probed.chain([row(Some(0x1000), Some("p"), 1)]).chain(sums).collect();
        for text in [accesses(&rows), statistics(&rows)] {
            assert_eq!(text.lines().count(), 1 + POLICY_ROWS + 3 + 1, "{text}");
            for part in ["0x1000 ", "0x63 ", "(others) ", "and 84 more MSRs"] {
                assert!(text.contains(part), "no `{part}`:\n{text}");
            }
            assert!(!text.contains("0x53 "), "the most frequent are shown:\n{text}");
        }
        assert!(statistics(&rows).contains("FUEL"));
    }
}
