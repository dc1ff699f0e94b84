//! The guarded MSRs as a profile lists them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use serde::Deserialize;
use wasmsr_sdk::{Error, MsrIndex, MsrRange, Setup};

use crate::entry::{Entry, Table};
use crate::guard::{Guard, Limit};
use crate::pace::Turn;
use crate::{Guarded, SamplingGuard, Then};

/// Most MSRs. With the longest histories they still fit into a saved state.
pub(crate) const MOST_MSRS: usize = 64;

/// Most values of one MSR that are remembered.
pub(crate) const MOST_VALUES: u32 = 32;

/// Longest window and interval, in seconds.
const LONGEST_S: u32 = 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Config {
    msrs: Vec<Entry>,
    fault_after: Option<u64>,
    per: Option<u32>,
    #[serde(default)]
    then: Then,
    #[serde(default = "eight")]
    history: u32,
    #[serde(default = "ten")]
    log_interval: u32,
}

fn eight() -> u32 {
    8
}

fn ten() -> u32 {
    10
}

/// The guards of a configuration, before any write.
pub(crate) fn read(setup: &Setup) -> Result<SamplingGuard, Error> {
    let config: Config = setup.config()?;
    if config.msrs.is_empty() {
        return Err(Error::in_config("msrs", "it is empty; list the MSRs to guard"));
    }
    if config.history > MOST_VALUES {
        let problem = format!("{} values are more than {MOST_VALUES}", config.history);
        return Err(Error::in_config("history", problem));
    }
    check_seconds("log-interval", config.log_interval)?;
    config.per.map_or(Ok(()), |per| check_seconds("per", per))?;
    let mut guarded = BTreeMap::new();
    for (place, Entry(entry)) in config.msrs.iter().enumerate() {
        let key = |key: &str| format!("msrs[{place}]{key}");
        entry.per.map_or(Ok(()), |per| check_seconds(&key(".per"), per))?;
        let MsrRange { first, last } = entry.range;
        for msr in (first.0..=last.0).map(MsrIndex) {
            if guarded.len() == MOST_MSRS {
                let problem = format!("{msr} is one more than the limit of {MOST_MSRS} MSRs");
                return Err(Error::in_config(key(""), problem));
            }
            if guarded.insert(msr, of_entry(&config, entry)).is_some() {
                return Err(Error::in_config(key(""), format!("{msr} is listed twice")));
            }
        }
    }
    Ok(SamplingGuard { guarded, interval_s: config.log_interval })
}

fn of_entry(config: &Config, entry: &Table) -> Guarded {
    let per = entry.per.or(config.per);
    let limit = Limit {
        writes: entry.fault_after.or(config.fault_after),
        in_window: per.is_some(),
        window_s: per.unwrap_or(1),
        history: usize::try_from(config.history).unwrap_or(0),
    };
    Guarded {
        name: entry.name.clone(),
        guard: Guard::new(limit),
        then: entry.then.unwrap_or(config.then),
        told: Turn::default(),
        warned: Turn::default(),
    }
}

fn check_seconds(key: &str, seconds: u32) -> Result<(), Error> {
    match (1..=LONGEST_S).contains(&seconds) {
        true => Ok(()),
        false => {
            let problem = format!("{seconds} seconds; it must be 1 to {LONGEST_S}");
            Err(Error::in_config(key, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use wasmsr_sdk::native::Host;

    use super::*;

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let error = Host::fresh().load_for::<SamplingGuard>(None, config).err().unwrap();
        let error = error.to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    fn loaded(config: &str) -> SamplingGuard {
        Host::fresh().load_for(None, config).unwrap()
    }

    #[test]
    fn an_entry_is_a_range_or_a_table() {
        let plugin = loaded(r#"{"msrs": [72, "0x49", "0x186-0x187", {"range": "0xc1-0xc2"}]}"#);
        let msrs: Vec<u32> = plugin.guarded.keys().map(|msr| msr.0).collect();
        assert_eq!(msrs, [0x48, 0x49, 0xc1, 0xc2, 0x186, 0x187]);
    }

    #[test]
    fn an_entry_goes_before_what_is_said_for_all() {
        let plugin = loaded(
            r#"{"fault-after": 9, "then": "pass", "msrs": [1,
                {"range": 2, "access": "w", "fault-after": 0, "per": 5, "then": "kernel"}]}"#,
        );
        let of = |msr| &plugin.guarded[&MsrIndex(msr)];
        let limit = |msr| of(msr).guard.limit();
        let all = Limit { writes: Some(9), in_window: false, window_s: 1, history: 8 };
        assert_eq!((limit(1), of(1).then), (all, Then::Pass));
        let own = Limit { writes: Some(0), in_window: true, window_s: 5, history: 8 };
        assert_eq!((limit(2), of(2).then), (own, Then::Kernel));
    }

    #[test]
    fn a_wrong_configuration_is_refused_by_key() {
        check_refused("{}", &["missing field `msrs`"]);
        check_refused(r#"{"msrs": []}"#, &["`msrs`", "list the MSRs"]);
        check_refused(r#"{"msrs": [true]}"#, &["`msrs[0]`", "true", "a table with `range`"]);
        check_refused(r#"{"msrs": [1, "ten"]}"#, &["`msrs[1]`", "ten"]);
        check_refused(r#"{"msrs": [-1]}"#, &["`msrs[0]`", "-1"]);
        check_refused(r#"{"msrs": [{"name": "X"}]}"#, &["`msrs[0]`", "missing field `range`"]);
        check_refused(r#"{"msrs": [{"range": 1, "fault": 1}]}"#, &["`msrs[0].fault`"]);
        check_refused(r#"{"msrs": [{"range": 1, "access": "none"}]}"#, &["`none`", "`w`"]);
        check_refused(r#"{"msrs": [1], "then": "drop"}"#, &["`then`", "`kernel`", "`pass`"]);
        check_refused(r#"{"msrs": [1], "fault-after": -1}"#, &["`fault-after`", "-1"]);
        check_refused(r#"{"msrs": [1], "fault-afer": 1}"#, &["`fault-afer`"]);
    }

    #[test]
    fn numbers_have_bounds() {
        check_refused(r#"{"msrs": [1], "history": 33}"#, &["`history`", "33", "32"]);
        check_refused(r#"{"msrs": [1], "log-interval": 0}"#, &["`log-interval`", "86400"]);
        check_refused(r#"{"msrs": [1], "per": 0}"#, &["`per`", "1 to 86400"]);
        check_refused(r#"{"msrs": [{"range": 1, "per": 86401}]}"#, &["`msrs[0].per`", "86401"]);
        check_refused(r#"{"msrs": [1, "0-0x1"]}"#, &["`msrs[1]`", "0x1 is listed twice"]);
        check_refused(r#"{"msrs": ["0-0xffffffff"]}"#, &["`msrs[0]`", "0x40", "64 MSRs"]);
        assert_eq!(loaded(r#"{"msrs": ["0-63"], "history": 32}"#).guarded.len(), MOST_MSRS);
    }
}
