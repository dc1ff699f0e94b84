//! The configuration, read and checked.

use alloc::boxed::Box;
use alloc::format;

use serde::Deserialize;
use wasmsr_sdk::{Error, Setup};

use crate::rules::{Read, Rule, Rules, Write};

/// Most rules: this many are read within a plugin's fuel at the start, and fit into its memory
/// with all values and lessons.
pub(crate) const MOST_RULES: usize = 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    rules: Box<[Rule]>,
    #[serde(default)]
    learn: bool,
}

/// The operator's configuration.
pub(crate) struct Config {
    pub(crate) rules: Rules,
    /// Whether accesses without a rule are answered and remembered.
    pub(crate) learn: bool,
}

/// The configuration of the profile.
pub(crate) fn read(setup: &Setup) -> Result<Config, Error> {
    let Table { rules, learn } = setup.config()?;
    if rules.len() > MOST_RULES {
        let problem = format!("{} rules are more than {MOST_RULES}; use ranges", rules.len());
        return Err(Error::in_config("rules", problem));
    }
    for (place, rule) in rules.iter().enumerate() {
        check(rule).map_err(|(key, problem)| {
            Error::in_config(format_args!("rules[{place}]{key}"), problem)
        })?;
    }
    Ok(Config { rules: Rules::new(rules), learn })
}

/// A contradiction in a rule: the key and the problem.
fn check(rule: &Rule) -> Result<(), (&'static str, &'static str)> {
    if rule.read.is_none() && rule.write.is_none() {
        return Err(("", "it has neither `read` nor `write`; add one, such as read = \"zero\""));
    }
    if rule.read == Some(Read::Stored) {
        return Ok(());
    }
    const UNREAD: &str = "the stored value is never read; add read = \"stored\" or remove this";
    if rule.write == Some(Write::Store) {
        return Err((".write", UNREAD));
    }
    if rule.value.is_some() {
        return Err((".value", UNREAD));
    }
    if rule.shared {
        return Err((".shared", UNREAD));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use wasmsr_sdk::native::Host;

    use super::*;
    use crate::UnknownLog;

    #[track_caller]
    fn check_refused(config: &str, parts: &[&str]) {
        let error = Host::fresh().load_for::<UnknownLog>(None, config).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }

    #[test]
    fn a_wrong_rule_is_refused_by_key() {
        check_refused(r#"{"rules": [{}]}"#, &["`rules[0]`", "missing field `range`"]);
        check_refused(r#"{"rules": [{"range": 1, "rd": 1}]}"#, &["`rules[0].rd`"]);
        check_refused(r#"{"rules": [{"range": "0x2-0x1"}]}"#, &["`rules[0].range`", "0x2-0x1"]);
        check_refused(
            r#"{"rules": [{"range": 1, "read": "one"}]}"#,
            &["`rules[0].read`", "`one`", "`zero`", "`stored`", "`fault`", "`pass`"],
        );
        check_refused(r#"{"rules": [{"range": 1, "value": -1}]}"#, &["`rules[0].value`", "-1"]);
        check_refused(r#"{"rules": [{"range": 1, "reason": "filter"}]}"#, &["`filter`"]);
        check_refused(r#"{"learns": true}"#, &["`learns`"]);
    }

    #[test]
    fn a_rule_that_cannot_mean_what_it_says_is_refused() {
        let rule =
            |rest: &str| format!(r#"{{"rules": [{{"range": 1, "read": "fault"}}, {rest}]}}"#);
        check_refused(&rule(r#"{"range": 2}"#), &["`rules[1]`", "neither"]);
        for (rest, key) in [
            (r#""write": "store""#, "write"),
            (r#""read": "zero", "write": "store""#, "write"),
            (r#""read": "zero", "value": 1"#, "value"),
            (r#""write": "ignore", "shared": true"#, "shared"),
        ] {
            let config = rule(&format!(r#"{{"range": 2, {rest}}}"#));
            check_refused(&config, &[&format!("`rules[1].{key}`"), "read = \"stored\""]);
        }
    }

    #[test]
    fn there_is_an_end_to_rules() {
        let rules = |count| {
            let rules = [r#"{"range": 1, "read": "zero"}"#].repeat(count).join(",");
            format!(r#"{{"rules": [{rules}]}}"#)
        };
        Host::fresh().load_for::<UnknownLog>(None, &rules(MOST_RULES)).unwrap();
        check_refused(&rules(MOST_RULES + 1), &["`rules`", "1025", "1024"]);
    }

    #[test]
    fn a_rule_is_shown_as_it_is_written() {
        let shown = |json: &str| -> String {
            let config = format!(r#"{{"rules": [{json}]}}"#);
            let plugin: UnknownLog = Host::fresh().load_for(None, &config).unwrap();
            plugin.rules.iter().next().unwrap().to_string()
        };
        assert_eq!(shown(r#"{"range": 6, "read": "zero"}"#), r#"{ range = "0x6", read = "zero" }"#);
        assert_eq!(
            shown(
                r#"{"shared": true, "value": 10, "write": "store", "read": "stored",
                    "reason": "invalid", "range": "1-16"}"#
            ),
            "{ range = \"0x1-0x10\", reason = \"invalid\", read = \"stored\", write = \"store\", \
             value = \"0xa\", shared = true }"
        );
    }
}
