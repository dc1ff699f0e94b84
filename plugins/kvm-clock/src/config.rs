//! How often the guest's memory is updated.

use core::ops::RangeInclusive;

use serde::Deserialize;
use wasmsr_sdk::{Error, Setup};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Fields {
    refresh_ms: Option<u64>,
    steal_interval_ms: Option<u64>,
}

/// Both in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) refresh_ns: u64,
    pub(crate) steal_interval_ns: u64,
}

/// Each update takes a vCPU out of the guest; above a minute the clocks drift
/// apart visibly.
const ALLOWED_MS: RangeInclusive<u64> = 10..=60_000;

impl Config {
    pub(crate) fn read(setup: &Setup) -> Result<Config, Error> {
        let Fields { refresh_ms, steal_interval_ms } = setup.config()?;
        Ok(Config {
            refresh_ns: nanoseconds("refresh-ms", refresh_ms.unwrap_or(1000))?,
            steal_interval_ns: nanoseconds("steal-interval-ms", steal_interval_ms.unwrap_or(100))?,
        })
    }
}

fn nanoseconds(key: &str, ms: u64) -> Result<u64, Error> {
    if ALLOWED_MS.contains(&ms) {
        return Ok(ms * 1_000_000);
    }
    let (low, high) = (ALLOWED_MS.start(), ALLOWED_MS.end());
    Err(Error::in_config(key, format_args!("{ms} is not from {low} to {high}")))
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use wasmsr_sdk::native::Host;

    use crate::KvmClock;

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let error = Host::fresh().load::<KvmClock>(config).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    #[test]
    fn an_interval_outside_the_limits_is_refused() {
        check_refused(r#"{"refresh-ms": 0}"#, &["`refresh-ms`", "0 is not from 10 to 60000"]);
        check_refused(r#"{"refresh-ms": 60001}"#, &["`refresh-ms`", "60001"]);
        check_refused(r#"{"steal-interval-ms": 9}"#, &["`steal-interval-ms`", "9 is not"]);
        check_refused(r#"{"steal-interval-ms": 18446744073709551615}"#, &["is not from 10"]);
    }

    #[test]
    fn a_wrong_key_or_type_is_refused() {
        check_refused(r#"{"refresh": 1000}"#, &["`refresh`", "`refresh-ms`"]);
        check_refused(r#"{"refresh-ms": "1s"}"#, &["`refresh-ms`"]);
        check_refused(r#"{"refresh-ms": -1}"#, &["`refresh-ms`"]);
    }
}
