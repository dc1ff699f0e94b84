//! The configuration.

use serde::Deserialize;
use wasmsr_sdk::{Error, Setup};

/// A shorter interval would keep a vCPU busy; with a longer one a steered line
/// would overshoot the host's clock.
const REFRESH_MS: core::ops::RangeInclusive<u64> = 10..=10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    #[serde(default = "every_second")]
    refresh_ms: u64,
}

fn every_second() -> u64 {
    1000
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    /// How often the reference TSC page is updated.
    pub(crate) refresh_ns: u64,
}

/// Reads the configuration.
pub(crate) fn read(setup: &Setup) -> Result<Config, Error> {
    let Table { refresh_ms } = setup.config()?;
    if !REFRESH_MS.contains(&refresh_ms) {
        let (least, most) = (REFRESH_MS.start(), REFRESH_MS.end());
        return Err(Error::in_config(
            "refresh-ms",
            format_args!("{refresh_ms} is out of range; choose {least} to {most}"),
        ));
    }
    Ok(Config { refresh_ns: refresh_ms * 1_000_000 })
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use wasmsr_sdk::native::Host;

    use crate::HypervClock;

    #[test]
    fn only_the_refresh_can_be_chosen() {
        let load = |config: &str| Host::fresh().load_for::<HypervClock>(None, config);
        for config in ["{}", r#"{"refresh-ms": 10}"#, r#"{"refresh-ms": 10000}"#] {
            assert!(load(config).is_ok(), "{config}");
        }
        for value in [0, 9, 10_001, u64::MAX] {
            let error = load(&format!(r#"{{"refresh-ms": {value}}}"#)).err().unwrap().to_string();
            assert!(error.contains("`refresh-ms`") && error.contains("10 to 10000"), "{error}");
        }
        let error = load(r#"{"refresh_ms": 10}"#).err().unwrap().to_string();
        assert!(error.contains("`refresh_ms`") && error.contains("`refresh-ms`"), "{error}");
    }
}
