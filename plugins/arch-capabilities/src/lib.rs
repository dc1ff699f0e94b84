//! `IA32_ARCH_CAPABILITIES` (0x10a) with the operator's value: the bits by which
//! a guest decides which mitigations it needs (Intel SDM, volume 4, table 2-2).
#![no_std]

use serde::Deserialize;
use wasmsr_sdk::{Access, Bits64, Error, Otherwise, Plugin, Setup, export};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    value: Bits64,
}

struct ArchCapabilities {
    value: u64,
}

impl Plugin for ArchCapabilities {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let config: Config = setup.config()?;
        Ok(ArchCapabilities { value: config.value.0 })
    }

    fn rdmsr(&mut self, _: Access) -> Result<u64, Otherwise> {
        Ok(self.value)
    }

    fn wrmsr(&mut self, _: Access, _: u64) -> Result<(), Otherwise> {
        // Read-only in hardware.
        Err(Otherwise::Fault)
    }
}

export!(ArchCapabilities);

#[cfg(test)]
mod tests {
    extern crate alloc;

    use alloc::string::ToString;

    use wasmsr_sdk::native::{Host, access};

    use super::*;

    const MSR: Access = access(0x10a);

    #[track_caller]
    fn check_refused(config: &str, part: &str) {
        let error = Host::fresh().load::<ArchCapabilities>(config).err().unwrap().to_string();
        assert!(error.contains(part), "{config}: {error}");
    }

    #[test]
    fn a_read_gives_the_configured_value() {
        for (config, value) in [
            (r#"{"value": 43}"#, 0x2b),
            (r#"{"value": "0x8000000000000001"}"#, 0x8000_0000_0000_0001),
        ] {
            let mut plugin: ArchCapabilities = Host::fresh().load(config).unwrap();
            assert_eq!(plugin.rdmsr(MSR), Ok(value), "{config}");
        }
    }

    #[test]
    fn a_write_faults_and_changes_nothing() {
        let mut plugin: ArchCapabilities = Host::fresh().load(r#"{"value": 43}"#).unwrap();
        assert_eq!(plugin.wrmsr(MSR, 0), Err(Otherwise::Fault));
        assert_eq!(plugin.rdmsr(MSR), Ok(0x2b));
    }

    #[test]
    fn a_wrong_configuration_is_refused_by_key() {
        check_refused("{}", "missing field `value`");
        check_refused(r#"{"value": -1}"#, "`value`");
        check_refused(r#"{"value": 1, "valeu": 1}"#, "`valeu`");
    }

    /// Intel SDM volume 4, table 2-2, and Linux, `msr-index.h`, `ARCH_CAP_*`.
    #[test]
    fn the_readme_names_every_bit() {
        let readme = include_str!("../README.md");
        let rows = readme.lines().filter(|line| line.starts_with("| "));
        let cells: alloc::vec::Vec<&str> = rows.flat_map(|row| row.split('|')).collect();
        for bit in (0..=33).chain([62, 63]) {
            let bit = bit.to_string();
            let name =
                cells.windows(2).find(|pair| pair[0].trim() == bit).map(|pair| pair[1].trim());
            let name = name.unwrap_or_else(|| panic!("bit {bit} is not in the table"));
            assert!(name == "reserved" || name.starts_with('`'), "bit {bit}: {name}");
        }
    }
}
