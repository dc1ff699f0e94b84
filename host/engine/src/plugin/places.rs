//! Where in a manifest's text a mistake is, for those that only the whole shows.

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::manifest::ManifestError;
use crate::msr::{Direction, Directions, MsrRange};
use crate::toml_file::{self, Place};

/// The parts of a manifest that mistakes are found in.
#[derive(Deserialize)]
struct File {
    plugin: Spanned<About>,
    #[serde(default)]
    msr: Vec<Spanned<Msr>>,
    #[serde(default)]
    cpuid: Vec<Spanned<Cpuid>>,
}

#[derive(Deserialize)]
struct About {
    name: Spanned<IgnoredAny>,
    abi: Spanned<IgnoredAny>,
}

#[derive(Deserialize)]
struct Msr {
    range: Option<Spanned<MsrRange>>,
    access: Option<Directions>,
    intercept: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct Cpuid {
    leaf: u32,
    #[serde(default)]
    subleaf: u32,
    eax: Option<Spanned<IgnoredAny>>,
    ebx: Option<Spanned<IgnoredAny>>,
    ecx: Option<Spanned<IgnoredAny>>,
    edx: Option<Spanned<IgnoredAny>>,
}

/// The place of a mistake in a manifest that is TOML otherwise.
pub(super) fn of(text: &str, mistake: &ManifestError) -> Option<Place> {
    let File { plugin, msr, cpuid } = toml_file::parse(text).ok()?;
    let offset = match mistake {
        ManifestError::Name(_) => plugin.get_ref().name.span().start,
        ManifestError::Abi(_) => plugin.get_ref().abi.span().start,
        ManifestError::Idle => plugin.span().start,
        ManifestError::Reserved(range) => {
            let off = msr.iter().map(Spanned::get_ref).find(|table| {
                let own = table.range.as_ref().map(Spanned::get_ref);
                own == Some(range) && table.intercept.is_some()
            })?;
            off.intercept.as_ref()?.span().start
        }
        ManifestError::Overlap(..) => overlap(&msr)?,
        ManifestError::Cpuid { leaf, subleaf, register, .. } => {
            let registers = |table: &Cpuid| match *register {
                "eax" => table.eax.as_ref().map(Spanned::span),
                "ebx" => table.ebx.as_ref().map(Spanned::span),
                "ecx" => table.ecx.as_ref().map(Spanned::span),
                _ => table.edx.as_ref().map(Spanned::span),
            };
            let mut tables = cpuid.iter().map(Spanned::get_ref);
            let table = tables.find(|table| (table.leaf, table.subleaf) == (*leaf, *subleaf))?;
            registers(table)?.start
        }
        _ => return None,
    };
    Some(toml_file::place(text, offset))
}

/// The place of an `[[msr]]` table, by its number from 0.
pub(super) fn msr_table(text: &str, number: usize) -> Option<Place> {
    let File { msr, .. } = toml_file::parse(text).ok()?;
    Some(toml_file::place(text, msr.get(number)?.span().start))
}

/// The first range, in the order of the text, that overlaps one before it.
fn overlap(tables: &[Spanned<Msr>]) -> Option<usize> {
    let mut before: Vec<(MsrRange, Directions)> = Vec::new();
    for table in tables.iter().map(Spanned::get_ref) {
        let Some(range) = &table.range else { continue };
        let access = table.access.unwrap_or(Directions::ReadWrite);
        let own = *range.get_ref();
        let meets = |(other, directions): &(MsrRange, Directions)| {
            let mut each = [Direction::Read, Direction::Write].into_iter();
            let both = each.any(|each| directions.contains(each) && access.contains(each));
            both && other.intersection(own).is_some()
        };
        if before.iter().any(meets) {
            return Some(range.span().start);
        }
        before.push((own, access));
    }
    None
}
