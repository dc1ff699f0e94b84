//! The ranges that two contracts decide differently.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmsr_interface::{Directions, MsrRange};

use super::saved::Side;
use super::who::Who;
use super::{AsRow, Contract, rows};
use crate::terminal::tables::{range_name, table};

/// The ranges that two contracts decide differently.
#[derive(Debug, Serialize)]
pub(crate) struct Diff {
    same: bool,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    range: String,
    first: u32,
    last: u32,
    name: Option<&'static str>,
    access: String,
    /// In the profile that is checked.
    here: Option<Who>,
    /// In the other one; `null` where a saved contract does not say it.
    other: Option<Who>,
    #[serde(skip)]
    title: String,
}

/// What both sides say of an access; nothing if they agree.
#[derive(Debug, Clone, PartialEq)]
struct Pair(Option<[Option<Who>; 2]>);

impl AsRow for Pair {
    type Row = Option<Difference>;

    fn row(self, msrs: MsrRange, directions: Directions) -> Option<Difference> {
        let [here, other] = self.0?;
        Some(Difference {
            range: msrs.to_string(),
            first: msrs.first().0,
            last: msrs.last().0,
            name: msrs.first().name(),
            access: directions.to_string(),
            here,
            other,
            title: range_name(msrs),
        })
    }
}

impl Diff {
    pub(crate) fn between(here: &Contract, other: &Side) -> Self {
        let here = Side::of(here);
        let edges: BTreeSet<u32> = [&here, other]
            .into_iter()
            .flat_map(|side| &side.rows)
            .flat_map(|row| [Some(row.range.first().0), row.range.last().0.checked_add(1)])
            .flatten()
            .collect();
        let differences = rows(&edges, |index, direction| {
            let side = |side: &Side| side.who(index, direction).cloned().map(Who::without_note);
            let sides = [side(&here), side(other)];
            let [one, two] = &sides;
            Pair((one != two).then_some(sides))
        });
        let differences: Vec<Difference> = differences.into_iter().flatten().collect();
        Diff { same: differences.is_empty(), differences }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.same
    }

    pub(crate) fn for_people(&self) -> String {
        if self.same {
            return "every MSR is decided alike".to_owned();
        }
        let mut table = table(["MSR", "NAME", "ACCESS", "HERE", "OTHER"], &[]);
        let words = |who: &Option<Who>| match who {
            Some(who) => format!("{}, {}", who.decider_for_people(), who.otherwise()),
            None => "-".to_owned(),
        };
        for row in &self.differences {
            table.add_row([
                row.range.clone(),
                row.title.clone(),
                row.access.clone(),
                words(&row.here),
                words(&row.other),
            ]);
        }
        let count = self.differences.len();
        let ranges = if count == 1 { "range is" } else { "ranges are" };
        format!("{}\n\n{count} {ranges} decided differently\n", table.trim_fmt())
    }
}
