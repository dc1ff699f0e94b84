//! Where a profile lists the MSRs that a plugin claims: refusals say it, since the
//! operator of the plugin cannot edit its manifest.

use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use wasmsr_interface::MsrRange;

use crate::manifest::{ListedEntry, ManifestError};
use crate::plugin::{ModuleError, Plugin};
use crate::profile::Profile;
use crate::toml_file::{self, Place};

/// The place of a claim in a profile's `config`: `` `config.msrs` (`msrs[0]`, line 7,
/// column 3) ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPlace {
    /// The key of the list in `config`.
    pub list: String,
    /// The entry, from 0.
    pub entry: usize,
    /// Where in the profile it is.
    pub place: Option<Place>,
}

impl fmt::Display for ListedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ListedPlace { list, entry, place } = self;
        write!(f, "`config.{list}` (`{list}[{entry}]`")?;
        if let Some(place) = place {
            write!(f, ", {place}")?;
        }
        f.write_str(")")
    }
}

/// Where `profile` lists the claim of its plugin that meets `range`; `None` if the
/// manifest has the claim.
pub(super) fn place_of(profile: &Profile, plugin: &Plugin, range: MsrRange) -> Option<ListedPlace> {
    let entries = plugin.manifest.listed_entries(&plugin.config.config).ok()?;
    let meets = |entry: &&ListedEntry| entry.claim.range.intersection(range).is_some();
    let found = entries.iter().find(meets)?;
    let number = profile.plugins.iter().position(|config| *config == plugin.config)?;
    let place = locate(&profile.text, number, &found.key());
    Some(ListedPlace { list: found.list.clone(), entry: found.number, place })
}

/// The error of the plugin with this number in the profile, with its place in the
/// profile where it is about an entry of the configuration.
pub(super) fn with_place(error: ModuleError, profile: &Profile, number: usize) -> ModuleError {
    match error {
        ModuleError::Listed(ManifestError::Listed(error)) => {
            let place = locate(&profile.text, number, error.key());
            ModuleError::Listed(ManifestError::Listed(error.at(place)))
        }
        error => error,
    }
}

/// The place of a key of a plugin's `config`, such as `msrs[0].range`, or of the part of
/// it that is there.
fn locate(profile: &str, number: usize, key: &str) -> Option<Place> {
    let file = DeTable::parse(profile).ok()?;
    let plugins = file.get_ref().get("plugin")?.get_ref().as_array()?;
    let mut of_file = plugins.iter().filter(|plugin| !is_kernel_shadow(plugin.get_ref()));
    let config = of_file.nth(number)?.get_ref().as_table()?.get("config")?;
    let mut found: &Spanned<DeValue<'_>> = config;
    for part in key.split(['.', '[']) {
        let inner = match part.strip_suffix(']') {
            Some(entry) => entry.parse().ok().and_then(|entry: usize| found.get_ref().get(entry)),
            None => found.get_ref().get(part),
        };
        match inner {
            Some(inner) => found = inner,
            None => break,
        }
    }
    Some(toml_file::place(profile, found.span().start))
}

/// Whether an entry is a kernel shadow, which is not among a profile's plugins.
fn is_kernel_shadow(plugin: &DeValue<'_>) -> bool {
    let kernel = plugin.as_table().and_then(|table| table.get("kernel"));
    kernel.and_then(|kernel| kernel.get_ref().as_bool()) == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_however_the_table_is_written() {
        let line_of = |text: &str, number: usize, key: &str| {
            locate(text, number, key).map(|place| (place.line, place.column))
        };
        let inline = "[[plugin]]\npath = \"a\"\n[[plugin]]\npath = \"b\"\n\
                      config = { msrs = [\n  { range = 1 },\n  { range = 2, read = \"x\" } ] }\n";
        assert_eq!(line_of(inline, 1, "msrs[1]"), Some((7, 3)));
        assert_eq!(line_of(inline, 1, "msrs[1].range"), Some((7, 13)));
        assert_eq!(line_of(inline, 1, "msrs[1].access"), Some((7, 3)));
        assert_eq!(line_of(inline, 0, "msrs[1]"), None);
        let tables = "[[plugin]]\npath = \"a\"\n[[plugin.config.msrs]]\nrange = 1\n\
                      [[plugin.config.msrs]]\nrange = 2\n";
        assert_eq!(line_of(tables, 0, "msrs[1].range"), Some((6, 9)));
        let dotted = "[[plugin]]\npath = \"a\"\nconfig.msrs = [1, 2]\n";
        assert_eq!(line_of(dotted, 0, "msrs[1]"), Some((3, 19)));
        assert_eq!(line_of(dotted, 0, "msrs[7]"), Some((3, 15)));
    }
}
