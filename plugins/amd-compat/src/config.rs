//! The configuration as a profile has it.

use alloc::format;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Bits64, Error, MsrRange, Setup};

use crate::registers::has_any_of;

/// The configuration, checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// MSRs that are passed on.
    pub(crate) except: Vec<MsrRange>,
    /// The value for PATCH_LEVEL.
    pub(crate) patch_level: Option<Bits64>,
    /// Whether to set `TscFreqSel` in HWCR.
    pub(crate) tsc_freq_sel: bool,
}

pub(crate) fn read(setup: &Setup) -> Result<Config, Error> {
    let config: Config = setup.config()?;
    for (place, range) in config.except.iter().enumerate() {
        if !has_any_of(*range) {
            return Err(Error::in_config(
                format_args!("except[{place}]"),
                format!("the plugin answers none of {range}; remove it"),
            ));
        }
    }
    if let Some(level) = config.patch_level.filter(|level| level.0 > u32::MAX.into()) {
        return Err(Error::in_config(
            "patch-level",
            format!("{level} has more than 32 bits; give what `rdmsr 0x8b` shows on a host"),
        ));
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use wasmsr_sdk::native::Host;

    use crate::AmdCompat;

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let error = Host::fresh().load::<AmdCompat>(config).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    #[test]
    fn an_exception_from_nothing_is_refused() {
        check_refused(
            r#"{"except": ["0xc0010115", "0xc0011040-0xc001104d"]}"#,
            &["`except[1]`", "0xc0011040-0xc001104d"],
        );
        check_refused(r#"{"except": ["0xc0010201"]}"#, &["`except[0]`", "0xc0010201"]);
        check_refused(r#"{"except": ["0xc0010115-0xc0010015"]}"#, &["`except[0]`"]);
    }

    #[test]
    fn a_patch_level_has_32_bits() {
        check_refused(r#"{"patch-level": "0x100000000"}"#, &["`patch-level`", "0x100000000"]);
        check_refused(r#"{"patch-level": -1}"#, &["`patch-level`"]);
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused() {
        check_refused(r#"{"patch_level": 1}"#, &["`patch_level`", "`patch-level`"]);
        check_refused(r#"{"tsc-freq-sel": 1}"#, &["`tsc-freq-sel`"]);
    }
}
