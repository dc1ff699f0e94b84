//! The rows of the page's tables.

use std::fmt::Write as _;

use wasmsr_engine::record::{Hex, Op};

use super::html::escape;
use super::rows::Row;
use crate::recording::tally::{Counts, Tally};
use crate::recording::units::{duration, moment};

/// By MSR and plugin.
pub(super) fn msrs(tally: &Tally) -> String {
    let rows = tally.rows();
    let most = rows.iter().map(|row| row.counts.all()).max().unwrap_or(0);
    rows.into_iter().fold(String::new(), |mut text, row| {
        let msr = row.shown_msr();
        // A String takes everything.
        let _ = write!(
            text,
            "<tr><th scope=\"row\" data-v=\"{}\"><code>{msr}</code></th><td>{}</td><td>{}</td>{}</tr>",
            row.msr.map_or(u64::MAX, |msr| u64::from(msr.0)),
            escape(row.name.as_deref().unwrap_or("–")),
            escape(row.plugin.as_deref().unwrap_or("(policy)")),
            cells(&row.counts, most)
        );
        text
    })
}

/// By plugin.
pub(super) fn plugins(tally: &Tally) -> String {
    let most = tally.by_plugin().map(|(_, counts)| counts.all()).max().unwrap_or(0);
    tally.by_plugin().fold(String::new(), |mut text, (plugin, counts)| {
        let plugin = escape(plugin.map_or("(policy)", |plugin| plugin));
        let _ = write!(text, "<tr><th scope=\"row\">{plugin}</th>{}</tr>", cells(counts, most));
        text
    })
}

/// Host calls of plugins.
pub(super) fn calls(tally: &Tally) -> String {
    tally.calls().fold(String::new(), |mut text, (plugin, call, count)| {
        let _ = write!(
            text,
            "<tr><th scope=\"row\">{}</th><td><code>{call}</code></td>{}</tr>",
            escape(plugin),
            number("", count)
        );
        text
    })
}

/// The accesses with the outcomes fault and stop, and those that failed.
pub(super) fn troubles(rows: &[&Row]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        let name = row.name.as_ref().map_or(String::new(), |name| format!(" {}", escape(name)));
        let access = match (row.op, row.value) {
            (Op::Read, _) => "read".to_owned(),
            (Op::Write, Some(Hex(value))) => format!("write <code>{value:#x}</code>"),
            (Op::Write, None) => "write".to_owned(),
        };
        let outcome = row.class.name();
        let _ = write!(
            text,
            "<tr><td class=\"n\" data-v=\"{}\">{}</td>{}{}\
             <td data-v=\"{}\"><code>{}</code>{name}</td><td>{access}</td>\
             <td><span class=\"mark {outcome}\">{outcome}</span></td><td>{}</td></tr>",
            row.t,
            moment(row.t).trim_start(),
            number("", row.boot),
            number("", row.vcpu.into()),
            row.msr.0,
            row.msr,
            escape(row.plugin.as_deref().unwrap_or("(policy)")),
        );
        text
    })
}

/// A cell that the page sorts as a number.
fn number(class: &str, number: u64) -> String {
    format!("<td class=\"n {class}\" data-v=\"{number}\">{}</td>", grouped(number))
}

/// A number with a comma at each thousand.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The cells for counts and times, with a bar for the share of all accesses.
fn cells(counts: &Counts, most: u64) -> String {
    let all = counts.all();
    // In permille of the longest bar, and long enough to be seen.
    let length = (u128::from(all) * 1000 / u128::from(most.max(1))).max(u128::from(all.min(8)));
    let mut text = format!(
        "{}<td class=\"bar\">\
         <svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect width=\"{length}\" height=\"10\"/></svg></td>",
        number("", all)
    );
    let Counts { reads, writes, faults, failures, kernel, .. } = *counts;
    let classes = ["", "", "fault", "failed", ""];
    for (count, class) in [reads, writes, faults, failures, kernel].into_iter().zip(classes) {
        text += &number(if count > 0 { class } else { "" }, count);
    }
    for ns in [counts.mean(), counts.quantile(0.5), counts.quantile(0.99), counts.max] {
        let _ = write!(text, "<td class=\"n\" data-v=\"{ns}\">{}</td>", duration(ns));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
