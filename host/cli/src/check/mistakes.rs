//! What is wrong with a profile, all of it: for people on standard error, and as JSON.

use std::path::Path;

use serde::Serialize;
use wasmsr_engine::manifest::ManifestError;
use wasmsr_engine::{LoadError, Place, TomlError};

use crate::exit::{Code, Failure};
use crate::terminal::console::{print, print_error};
use crate::terminal::plain::pretty_json;

#[derive(Serialize)]
struct Report {
    profile: String,
    errors: Vec<Mistake>,
}

#[derive(Serialize)]
struct Mistake {
    /// The file with the mistake: the profile, the other side of `--diff`, or a plugin.
    file: String,
    /// The place in the file's text, or in its manifest; `null` if it has none.
    line: Option<usize>,
    column: Option<usize>,
    /// As standard error has it.
    message: String,
}

/// Prints all mistakes of `file`: the profile, or what it is compared with. The code is that of bad input.
pub(super) fn tell(
    profile: &Path,
    file: &Path,
    mistakes: &[anyhow::Error],
    json: bool,
) -> Result<Code, Failure> {
    if json {
        let errors = mistakes.iter().map(|error| Mistake::of(file, error)).collect();
        let report = Report { profile: profile.display().to_string(), errors };
        print(&pretty_json(&report).map_err(Failure::host)?).map_err(Failure::host)?;
    }
    mistakes.iter().for_each(print_error);
    Ok(Code::BAD_INPUT)
}

impl Mistake {
    fn of(file: &Path, error: &anyhow::Error) -> Self {
        let place = error.chain().find_map(|error| {
            let toml = error.downcast_ref::<TomlError>().and_then(|error| error.place);
            toml.or_else(|| error.downcast_ref::<ManifestError>().and_then(place_of))
        });
        let plugin = error.chain().find_map(|error| match error.downcast_ref()? {
            LoadError::Module { path, .. } => Some(path.as_path()),
            _ => None,
        });
        Mistake {
            file: plugin.unwrap_or(file).display().to_string(),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            message: format!("{error:#}"),
        }
    }
}

fn place_of(error: &ManifestError) -> Option<Place> {
    match error {
        ManifestError::At { place, .. } => Some(*place),
        ManifestError::Toml(error) => error.place,
        _ => None,
    }
}
