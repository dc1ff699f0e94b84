//! The results of benchmarks, for people and for programs.

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::json;

use crate::measure::Pair;

/// One figure and how to measure it.
pub(crate) struct Bench {
    /// For programs.
    pub(crate) name: &'static str,
    /// What is compared with what, for people.
    pub(crate) about: &'static str,
    /// The unit of `ours` and `reference`.
    pub(crate) unit: &'static str,
    /// Measures.
    pub(crate) run: fn() -> Result<Measured>,
}

/// The result of a benchmark.
pub(crate) enum Measured {
    Pair(Pair),
    /// It cannot run here, with the reason.
    Skipped(String),
}

/// Where figures go.
pub(crate) enum Report {
    /// One line of JSON per figure, at once.
    Json,
    /// A table at the end.
    Table(Box<Table>),
}

impl Report {
    pub(crate) fn for_people() -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(["FIGURE", "OURS", "REFERENCE", "UNIT", "RATIO", "WHAT"]);
        for column in [1, 2, 4] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Report::Table(Box::new(table))
    }

    pub(crate) fn add(&mut self, bench: &Bench, measured: &Measured) {
        let Bench { name, about, unit, .. } = *bench;
        match (self, measured) {
            (Report::Json, Measured::Pair(Pair { ours, reference, ratio })) => println!(
                "{}",
                json!({
                    "name": name, "ours": ours, "reference": reference, "ratio": ratio, "unit": unit
                })
            ),
            (Report::Json, Measured::Skipped(reason)) => {
                println!("{}", json!({ "name": name, "skipped": reason }));
            }
            (Report::Table(table), Measured::Pair(Pair { ours, reference, ratio })) => {
                table.add_row([
                    name.to_owned(),
                    format!("{ours:.2}"),
                    format!("{reference:.2}"),
                    unit.to_owned(),
                    format!("{ratio:.3}"),
                    about.to_owned(),
                ]);
            }
            (Report::Table(table), Measured::Skipped(reason)) => {
                table.add_row([name, "-", "-", unit, "-", &format!("skipped: {reason}")]);
            }
        }
    }

    pub(crate) fn finish(self) {
        if let Report::Table(table) = self {
            println!("{}", table.trim_fmt());
        }
    }
}
