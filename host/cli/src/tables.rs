//! Tables for people.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use wasmsr_engine::msr::{MsrIndex, MsrRange};
use wasmsr_engine::{Metrics, ShadowCounts};

/// A plain table: a head, aligned columns, no lines.
pub(crate) fn table<const N: usize>(head: [&str; N], right: &[usize]) -> Table {
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

/// A range's name: that of its only MSR, or of its first and what follows.
pub(crate) fn range_name(range: MsrRange) -> String {
    match (range.first().name(), range.count()) {
        (Some(name), 1) => name.to_owned(),
        (Some(name), _) => format!("{name} …"),
        (None, _) => "-".to_owned(),
    }
}

/// Rows shown for MSRs that no plugin answered: a guest that probes hundreds
/// of them must not bury the plugins' rows.
const POLICY_ROWS: usize = 16;

/// What became of the guest's MSR accesses.
pub(crate) fn accesses(metrics: &Metrics) -> String {
    let mut rows = metrics.msrs();
    if rows.is_empty() {
        return "no MSR access left the kernel".to_owned();
    }
    let mut policy_rows = 0;
    let all = rows.len();
    rows.retain(|row| {
        policy_rows += usize::from(row.plugin.is_none());
        row.plugin.is_some() || policy_rows <= POLICY_ROWS
    });
    let unshown = all - rows.len();
    let head =
        ["MSR", "NAME", "PLUGIN", "READS", "WRITES", "FAULTS", "FAILURES", "MEAN TIME", "P99"];
    let mut table = table(head, &[3, 4, 5, 6, 7, 8]);
    for row in rows {
        table.add_row([
            row.index.map_or("others".to_owned(), |index| index.to_string()),
            row.index.and_then(MsrIndex::name).unwrap_or("-").to_owned(),
            row.plugin.map_or("(policy)".to_owned(), |plugin| plugin.to_string()),
            row.reads.to_string(),
            row.writes.to_string(),
            row.faults.to_string(),
            row.failures.to_string(),
            row.latency.mean().map_or("-".to_owned(), duration),
            row.latency.within(990).map_or("-".to_owned(), duration),
        ]);
    }
    match unshown {
        0 => table.trim_fmt(),
        _ => format!("{}\n and {unshown} more MSRs that were left to the policy", table.trim_fmt()),
    }
}

/// How the shadows did.
pub(crate) fn shadows(shadows: &[ShadowCounts]) -> String {
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
            shadow.of.to_string(),
            shadow.accesses.to_string(),
            shadow.answers.to_string(),
            shadow.effects.to_string(),
            shadow.unclaimed.to_string(),
            shadow.failures.to_string(),
            fuel(shadow.mean_fuel()),
            fuel(shadow.mean_fuel_in_charge()),
            shadow.mean().map_or("-".to_owned(), duration),
        ]);
    }
    let mut text = table.trim_fmt();
    for shadow in shadows.iter().filter(|shadow| !shadow.examples.is_empty()) {
        text += &format!("\n\n{} {} differs from {}:", shadow.plugin, shadow.version, shadow.of);
        for example in &shadow.examples {
            text += &format!("\n {example}");
        }
    }
    text
}

/// A time in few characters.
fn duration(time: Duration) -> String {
    nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// A number of nanoseconds in few characters.
pub(crate) fn nanos(nanos: u64) -> String {
    match nanos {
        0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{} µs", nanos / 1_000),
        _ => format!("{} ms", nanos / 1_000_000),
    }
}

/// How long something has been there, from seconds.
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
