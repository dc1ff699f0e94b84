//! The tables above the steps of a script.

use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use wasmsr_interface::MAX_VCPUS;

use super::error::TraceError;
use crate::profile::{Profile, ProfileError};
use crate::toml_file;

/// Reads the tables of a script whose plugins lie in `directory`.
pub(super) fn parse_profile(text: &str, directory: &Path) -> Result<Profile, TraceError> {
    Profile::parse(&directory.join("trace.toml"), text).map_err(|error| {
        TraceError::Profile(match error {
            // The name of the file is not one that the user knows.
            ProfileError::Toml { source, .. } => source.to_string(),
            ProfileError::Value { message, .. } => message,
            error @ ProfileError::Read { .. } => error.to_string(),
        })
    })
}

/// How many vCPUs the tables above the steps ask for: `[vm] vcpus`.
pub(super) fn vcpus(text: &str) -> Result<u32, TraceError> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        vm: Vm,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Vm {
        vcpus: u32,
        /// A scripted host has what `ram` steps give it.
        #[serde(rename = "memory")]
        _memory: IgnoredAny,
    }

    impl Default for Vm {
        fn default() -> Self {
            Vm { vcpus: 1, _memory: IgnoredAny }
        }
    }

    let file: File =
        toml_file::parse(text).map_err(|error| TraceError::Profile(error.to_string()))?;
    match file.vm.vcpus {
        vcpus @ 1..=MAX_VCPUS => Ok(vcpus),
        vcpus => {
            let problem = format!("[vm] vcpus = {vcpus} must be 1 to {MAX_VCPUS}");
            Err(TraceError::Profile(problem))
        }
    }
}
