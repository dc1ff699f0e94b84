//! The other side of a comparison: a contract that was saved as JSON, or a profile.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use wasmsr_engine::LoadOptions;
use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

use super::who::Who;
use super::{Contract, FORMAT, Host, Row};
use crate::loaded::Loaded;

/// What is compared: ranges with their deciders, sorted by index.
pub(super) struct Side {
    pub(super) rows: Vec<SideRow>,
}

pub(super) struct SideRow {
    pub(super) range: MsrRange,
    pub(super) directions: Directions,
    pub(super) who: Who,
}

/// What `check --msrs --json` printed.
#[derive(Deserialize)]
struct Printed {
    contract: SavedContract,
}

#[derive(Deserialize)]
struct SavedContract {
    format: u32,
    ranges: Vec<SavedRow>,
}

#[derive(Deserialize)]
struct SavedRow {
    first: u32,
    last: u32,
    access: String,
    #[serde(flatten)]
    who: Who,
}

/// Reads the other side.
pub(crate) fn other(path: &Path, options: &LoadOptions, host: &Host) -> anyhow::Result<Side> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if !text.trim_start().starts_with('{') {
        let loaded = Loaded::load(path, options)?;
        return Ok(Side::of(&Contract::of(&loaded, host)));
    }
    let parsed: Printed = serde_json::from_str(&text).with_context(|| {
        format!(
            "{} is neither a profile nor what `wasmsr check --msrs --json PROFILE` prints",
            path.display()
        )
    })?;
    let saved = parsed.contract;
    if saved.format != FORMAT {
        bail!(
            "{} has format {}, and this wasmsr reads format {FORMAT}; make it again with this one",
            path.display(),
            saved.format
        );
    }
    let rows = saved.ranges.into_iter().map(SideRow::try_from).collect::<Result<_, _>>();
    Ok(Side { rows: rows.with_context(|| format!("contract {}", path.display()))? })
}

impl Side {
    pub(super) fn of(contract: &Contract) -> Self {
        let row = |row: &Row| SideRow {
            range: row.msrs,
            directions: row.directions,
            who: row.who.clone(),
        };
        Side { rows: contract.ranges.iter().map(row).collect() }
    }

    /// What decides an access; `None` if it is not said.
    pub(super) fn who(&self, index: MsrIndex, direction: Direction) -> Option<&Who> {
        let row = self.rows.iter();
        let mut row =
            row.filter(|row| row.range.contains(index) && row.directions.contains(direction));
        row.next().map(|row| &row.who)
    }
}

impl TryFrom<SavedRow> for SideRow {
    type Error = anyhow::Error;

    fn try_from(row: SavedRow) -> anyhow::Result<Self> {
        let range = MsrRange::new(MsrIndex(row.first), MsrIndex(row.last))
            .ok_or_else(|| anyhow!("the range from {:#x} runs backwards", row.first))?;
        let directions = match row.access.as_str() {
            "r" => Directions::Read,
            "w" => Directions::Write,
            "rw" => Directions::ReadWrite,
            _ => bail!("the range {range} has an access that is none of r, w and rw"),
        };
        Ok(SideRow { range, directions, who: row.who })
    }
}
