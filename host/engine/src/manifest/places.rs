//! Where in a manifest's text something is, for mistakes that only the whole
//! shows.

use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use wasmsr_interface::{Direction, Directions};

use crate::toml_file::{self, Place};

/// A part of a manifest; tables are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    Plugin,
    Name,
    Abi,
    /// An `[[msr]]` table.
    Msr(usize),
    /// Its `range`.
    Range(usize),
    /// Its `intercept`.
    Intercept(usize),
    /// A register of a `[[cpuid]]` table.
    Cpuid(usize, &'static str),
    /// A `[[when]]` table.
    When(usize),
    /// What asks for capabilities, or would.
    Needs,
    /// What first asks for accesses in this direction.
    Answers(Direction),
}

/// The manifest with its places.
#[derive(Deserialize)]
struct File {
    plugin: Spanned<About>,
    #[serde(default)]
    msr: Vec<Spanned<Msr>>,
    unhandled: Option<Spanned<IgnoredAny>>,
    needs: Option<Spanned<Needs>>,
    #[serde(default)]
    cpuid: Vec<Cpuid>,
    #[serde(default)]
    when: Vec<Spanned<IgnoredAny>>,
}

#[derive(Deserialize)]
struct About {
    name: Spanned<IgnoredAny>,
    abi: Spanned<IgnoredAny>,
}

#[derive(Deserialize)]
struct Msr {
    range: Option<Spanned<IgnoredAny>>,
    access: Option<Directions>,
    intercept: Option<Spanned<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Needs {
    capabilities: Option<Spanned<IgnoredAny>>,
}

#[derive(Deserialize)]
struct Cpuid {
    eax: Option<Spanned<IgnoredAny>>,
    ebx: Option<Spanned<IgnoredAny>>,
    ecx: Option<Spanned<IgnoredAny>>,
    edx: Option<Spanned<IgnoredAny>>,
}

/// The place of a part, in the text of a manifest that can be read.
pub(super) fn of(text: &str, spot: Spot) -> Option<Place> {
    let file: File = toml_file::parse(text).ok()?;
    Some(toml_file::place(text, file.offset(spot)?))
}

/// The place of a claim's range, of the claims that have one, counted from 0.
pub(super) fn of_claim(text: &str, number: usize) -> Option<Place> {
    let file: File = toml_file::parse(text).ok()?;
    let mut ranges = file.msr.iter().filter_map(|table| table.get_ref().range.as_ref());
    Some(toml_file::place(text, ranges.nth(number)?.span().start))
}

impl File {
    fn offset(&self, spot: Spot) -> Option<usize> {
        let plugin = self.plugin.span();
        let msr = |number: usize| self.msr.get(number);
        let span = match spot {
            Spot::Plugin => plugin,
            Spot::Name => self.plugin.get_ref().name.span(),
            Spot::Abi => self.plugin.get_ref().abi.span(),
            Spot::Msr(number) => msr(number)?.span(),
            Spot::Range(number) => msr(number)?.get_ref().range.as_ref()?.span(),
            Spot::Intercept(number) => msr(number)?.get_ref().intercept.as_ref()?.span(),
            Spot::Cpuid(number, register) => self.cpuid.get(number)?.register(register)?.span(),
            Spot::When(number) => self.when.get(number)?.span(),
            Spot::Needs => match &self.needs {
                Some(needs) => match &needs.get_ref().capabilities {
                    Some(capabilities) => capabilities.span(),
                    None => needs.span(),
                },
                None => plugin,
            },
            Spot::Answers(direction) => {
                let asks = |table: &&Spanned<Msr>| {
                    let access = table.get_ref().access.unwrap_or(Directions::ReadWrite);
                    access.contains(direction)
                };
                let msr = self.msr.iter().find(asks).map(Spanned::span);
                msr.or_else(|| self.unhandled.as_ref().map(Spanned::span))?
            }
        };
        Some(span.start)
    }
}

impl Cpuid {
    fn register(&self, name: &str) -> Option<&Spanned<IgnoredAny>> {
        match name {
            "eax" => self.eax.as_ref(),
            "ebx" => self.ebx.as_ref(),
            "ecx" => self.ecx.as_ref(),
            _ => self.edx.as_ref(),
        }
    }
}
