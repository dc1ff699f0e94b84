//! MSRs on the command line: indices, names and ranges, with names to complete.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, Error};
use wasmsr_interface::MsrRange;

/// Reads a range of MSRs, and offers shells the names that people look for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MsrArgument;

impl TypedValueParser for MsrArgument {
    type Value = MsrRange;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<MsrRange, Error> {
        let parse = |text: &str| text.parse::<MsrRange>();
        TypedValueParser::parse_ref(&parse, command, argument, value)
    }

    /// All names would make a completion script slow: those that guests are known to want.
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let wanted = wasmsr_msrs::all().iter().filter(|msr| msr.wanted.is_some());
        Some(Box::new(wanted.map(|msr| PossibleValue::new(msr.name))))
    }
}
