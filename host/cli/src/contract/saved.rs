//! The other side of a comparison: a contract that was saved as JSON, or a profile.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use wasmsr_engine::{LoadOptions, text_file};
use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

use super::who::Who;
use super::{Contract, FORMAT, Host, Row};
use crate::loaded::Checked;

/// Most bytes of a saved contract. One with a range for every claim that KVM's filter can
/// hold is far smaller.
const LARGEST: u64 = 16 << 20;

/// What is compared: ranges with their deciders, sorted by index.
pub(crate) struct Side {
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
pub(crate) fn other(
    path: &Path,
    options: &LoadOptions,
    host: &Host,
) -> Result<Side, Vec<anyhow::Error>> {
    let text = text_file::read(path, LARGEST, "contract")
        .with_context(|| format!("cannot read {}", path.display()))
        .map_err(|error| vec![error])?;
    if text.trim_start().starts_with('{') {
        return saved(path, &text).map_err(|error| vec![error]);
    }
    let checked = Checked::load(path, options)?;
    Ok(Side::of(&Contract::of(&checked, host)))
}

fn saved(path: &Path, text: &str) -> anyhow::Result<Side> {
    let parsed: Printed = serde_json::from_str(text).with_context(|| {
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
    let rows = saved.ranges.into_iter().map(SideRow::try_from).collect::<Result<Vec<_>, _>>();
    let rows = rows.with_context(|| format!("contract {}", path.display()))?;
    if rows.is_empty() {
        bail!("contract {} has no ranges; make it again with this wasmsr", path.display());
    }
    let is_sorted = rows.is_sorted_by(|a, b| {
        a.range.last() < b.range.first() || (a.range == b.range && a.directions != b.directions)
    });
    if !is_sorted {
        bail!(
            "contract {}: its ranges are not in order, or overlap; save it again",
            path.display()
        );
    }
    Ok(Side { rows })
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
        // At most one row per direction has the index.
        let first = self.rows.partition_point(|row| row.range.last() < index);
        let mut rows = self.rows.iter().skip(first).take(2);
        let row = rows.find(|row| row.range.contains(index) && row.directions.contains(direction));
        row.map(|row| &row.who)
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
