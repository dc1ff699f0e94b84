//! The registers as a profile lists them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Bits64, Error, MsrIndex, Setup, log};

use crate::bank::{Bank, FIRST, LAST};
use crate::register::{Register, Writable};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    registers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    msr: MsrIndex,
    name: Option<String>,
    #[serde(default)]
    access: Writable,
    #[serde(default)]
    value: Bits64,
    mask: Option<Bits64>,
}

/// The registers of a configuration, each with its value after reset.
pub(crate) fn read(setup: &Setup) -> Result<Bank, Error> {
    let config: Config = setup.config()?;
    let mut bank = Bank::empty();
    for (place, entry) in config.registers.iter().enumerate() {
        let refuse = |key: &str, problem| {
            Error::in_config(format_args!("registers[{place}].{key}"), problem)
        };
        if entry.access == Writable::Never && entry.mask.is_some() {
            return Err(refuse(
                "mask",
                format!("{} is read-only, so it has no writable bits; remove one", entry.msr),
            ));
        }
        let slot = bank.slot(entry.msr).ok_or_else(|| {
            refuse("msr", format!("{} is outside the plugin's range {FIRST}-{LAST}", entry.msr))
        })?;
        if slot.is_some() {
            return Err(refuse("msr", format!("{} is listed twice", entry.msr)));
        }
        let mask = entry.mask.unwrap_or(Bits64(u64::MAX));
        *slot = Some(Register::new(entry.access, entry.value.0, mask.0));
        log::debug!("register {} ({})", entry.msr, entry.name.as_deref().unwrap_or("unnamed"));
    }
    Ok(bank)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use wasmsr_sdk::native::Host;

    use crate::VendorRange;

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let error = Host::fresh().load::<VendorRange>(config).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    #[test]
    fn a_register_outside_the_range_is_refused() {
        check_refused(
            r#"{"registers": [{"msr": "0x56440000"}, {"msr": "0x56440100"}]}"#,
            &["`registers[1].msr`", "0x56440100", "0x56440000-0x564400ff"],
        );
    }

    #[test]
    fn a_register_listed_twice_is_refused() {
        check_refused(
            r#"{"registers": [{"msr": "0x56440007"}, {"msr": 1447297031}]}"#,
            &["`registers[1].msr`", "0x56440007", "twice"],
        );
    }

    #[test]
    fn a_mask_on_a_read_only_register_is_refused() {
        check_refused(
            r#"{"registers": [{"msr": "0x56440000", "mask": 1}]}"#,
            &["`registers[0].mask`", "read-only"],
        );
    }

    #[test]
    fn a_wrong_entry_is_refused_by_key() {
        check_refused("{}", &["missing field `registers`"]);
        check_refused(r#"{"registers": [{}]}"#, &["`registers[0]`", "missing field `msr`"]);
        check_refused(
            r#"{"registers": [{"msr": 1, "access": "wo"}]}"#,
            &["`registers[0].access`", "`wo`", "`read-only`", "`write-once`", "`read-write`"],
        );
        check_refused(
            r#"{"registers": [{"msr": 1, "acess": "read-write"}]}"#,
            &["`registers[0].acess`"],
        );
    }
}
