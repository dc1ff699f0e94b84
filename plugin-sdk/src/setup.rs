//! The input of a plugin's constructor.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::cell::Cell;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Error, VcpuId};

/// What the host tells a plugin at its start.
#[derive(Debug)]
pub struct Setup {
    vcpu: Option<VcpuId>,
    config: Vec<u8>,
    config_was_read: Cell<bool>,
}

impl Setup {
    pub(crate) fn new(vcpu: Option<VcpuId>, config: Vec<u8>) -> Self {
        Setup { vcpu, config, config_was_read: Cell::new(false) }
    }

    /// The vCPU that this instance serves; `None` with `scope = "vm"`.
    pub fn vcpu(&self) -> Option<VcpuId> {
        self.vcpu
    }

    /// The table `config` of the plugin's entry in the profile. A plugin that
    /// never calls this refuses every configuration but an empty one.
    ///
    /// # Errors
    /// A missing key or an unsuitable value, by name. Also an unknown key, if
    /// `T` has `#[serde(deny_unknown_fields)]`, which it should have.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.config_was_read.set(true);
        let mut json = serde_json::Deserializer::from_slice(&self.config);
        let config = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let problem = error.inner().to_string();
            // The text that this is a place in is not one that a person wrote.
            let problem = problem.rsplit_once(" at line ").map_or(&*problem, |(what, _)| what);
            let key = error.path();
            match key.iter().next() {
                _ if !error.inner().is_data() => {
                    Error::new(format_args!("config is not JSON: {problem}"))
                }
                Some(_) => Error::in_config(key, problem),
                None => Error::new(format_args!("config: {problem}")),
            }
        })?;
        json.end().map_err(|error| Error::new(format_args!("config is not JSON: {error}")))?;
        Ok(config)
    }

    /// Refuses a configuration that the plugin did not read.
    pub(crate) fn check_unread(&self) -> Result<(), Error> {
        if self.config_was_read.get() || self.config == b"{}" {
            Ok(())
        } else {
            Err(Error::new("this plugin takes no config; remove `config` from its profile entry"))
        }
    }
}

/// The key `access` of an entry in a list of MSRs that the manifest leaves to
/// the profile (`[[msr]] config`): which accesses exit. The engine reads it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListedAccess {
    /// `rdmsr`
    R,
    /// `wrmsr`
    W,
    /// Both.
    #[default]
    Rw,
    /// Nothing: the entry is for the plugin alone.
    None,
}

impl ListedAccess {
    /// Whether reads go to the plugin.
    pub fn reads_exit(self) -> bool {
        matches!(self, ListedAccess::R | ListedAccess::Rw)
    }

    /// Whether writes go to the plugin.
    pub fn writes_exit(self) -> bool {
        matches!(self, ListedAccess::W | ListedAccess::Rw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bits64, MsrIndex};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        registers: Vec<Register>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Register {
        msr: MsrIndex,
        #[serde(default)]
        mask: Bits64,
    }

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let setup = Setup::new(None, config.as_bytes().to_vec());
        let error = setup.config::<Config>().unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    #[test]
    fn a_configuration_becomes_the_plugins_own_type() {
        let config = br#"{"registers": [{"msr": "0x10a", "mask": 255}]}"#;
        let config: Config = Setup::new(None, config.to_vec()).config().unwrap();
        assert_eq!(config.registers[0].msr, MsrIndex(0x10a));
        assert_eq!(config.registers[0].mask, Bits64(255));
    }

    #[test]
    fn a_refusal_names_the_key() {
        check_refused("{}", &["config: ", "missing field `registers`"]);
        check_refused(r#"{"registers": [{}]}"#, &["`registers[0]`", "missing field `msr`"]);
        check_refused(
            r#"{"registers": [{"msr": 1}, {"msr": 2, "mask": true}]}"#,
            &["`registers[1].mask`", "boolean `true`", "at most 64 bits"],
        );
        check_refused(r#"{"registers": [], "vaule": 1}"#, &["unknown field `vaule`"]);
        check_refused("nonsense", &["not JSON"]);
    }

    #[test]
    fn an_unread_configuration_is_refused() {
        assert_eq!(Setup::new(None, b"{}".to_vec()).check_unread(), Ok(()));
        let unread = Setup::new(None, br#"{"value": 1}"#.to_vec());
        assert!(unread.check_unread().unwrap_err().to_string().contains("takes no config"));
    }
}
