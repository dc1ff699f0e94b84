//! Rules against a model that searches the whole history at each read.

use std::string::ToString;

use proptest::prelude::*;

use super::*;

/// A rule for the model and for the configuration.
#[derive(Debug, Clone)]
struct Plain {
    first: u32,
    last: u32,
    reason: Option<Reason>,
    read: &'static str,
    write: &'static str,
    shared: bool,
}

impl Plain {
    fn json(&self, value: u64) -> String {
        let Plain { first, last, reason, read, write, shared } = self;
        let reason = match reason {
            Some(Reason::Unknown) => r#""reason": "unknown","#,
            Some(_) => r#""reason": "invalid","#,
            None => "",
        };
        let stored = match *read {
            "stored" => format!(r#", "value": "{value}", "shared": {shared}"#),
            _ => String::new(),
        };
        format!(
            r#"{{"range": "{first}-{last}", {reason} "read": "{read}", "write": "{write}"{stored}}}"#
        )
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Read(Access),
    Write(Access, u64),
    Reset,
}

/// A value that a guest wrote, and its vCPU.
type Wrote = (u32, Option<u32>, u64);

struct Model {
    rules: Vec<Plain>,
    value: u64,
    history: Vec<Wrote>,
}

impl Model {
    fn rule(&self, access: Access) -> Option<&Plain> {
        let Access { index: MsrIndex(msr), reason, .. } = access;
        let here = |rule: &&Plain| rule.first <= msr && msr <= rule.last;
        let mut rules = self.rules.iter().filter(here);
        rules.find(|rule| rule.reason.is_none_or(|wanted| wanted == reason))
    }

    fn read(&self, access: Access) -> Result<u64, Otherwise> {
        let Some(rule) = self.rule(access) else { return Err(Otherwise::Pass) };
        match rule.read {
            "zero" => Ok(0),
            "stored" => {
                let owner = (!rule.shared).then_some(access.vcpu.0);
                let last = self.history.iter().rev();
                let mut last = last.filter(|wrote| (wrote.0, wrote.1) == (access.index.0, owner));
                Ok(last.next().map_or(self.value, |wrote| wrote.2))
            }
            "fault" => Err(Otherwise::Fault),
            _ => Err(Otherwise::Pass),
        }
    }

    fn write(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        let Some(rule) = self.rule(access) else { return Err(Otherwise::Pass) };
        match rule.write {
            "store" => {
                let owner = (!rule.shared).then_some(access.vcpu.0);
                self.history.push((access.index.0, owner, value));
                Ok(())
            }
            "ignore" => Ok(()),
            "fault" => Err(Otherwise::Fault),
            _ => Err(Otherwise::Pass),
        }
    }
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![Just(Reason::Unknown), Just(Reason::Invalid)]
}

fn rule() -> impl Strategy<Value = Plain> {
    let directions = prop_oneof![
        (prop_oneof![Just("zero"), Just("fault"), Just("pass")], Just("ignore")),
        (Just("stored"), prop_oneof![Just("store"), Just("ignore"), Just("fault"), Just("pass")]),
    ];
    (0..6_u32, 0..3_u32, prop::option::of(reason()), directions, any::<bool>()).prop_map(
        |(first, length, reason, (read, write), shared)| Plain {
            first,
            last: first + length,
            reason,
            read,
            write,
            shared,
        },
    )
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let access = || (0..8_u32, 0..2_u32, reason()).prop_map(|(msr, vcpu, why)| on(msr, vcpu, why));
    let step = prop_oneof![
        6 => access().prop_map(Step::Read),
        6 => (access(), 0..3_u64).prop_map(|(access, value)| Step::Write(access, value)),
        1 => Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn rules_do_what_they_say(
        rules in prop::collection::vec(rule(), 0..5),
        value in 0..3_u64,
        steps in steps(),
    ) {
        let json: Vec<String> = rules.iter().map(|rule| rule.json(value)).collect();
        let config = format!(r#"{{"rules": [{}]}}"#, json.join(","));
        let host = Host::fresh();
        host.set_vcpus(2);
        let mut plugin: UnknownLog = host.load_for(None, &config).unwrap();
        let mut model = Model { rules, value, history: Vec::new() };
        for step in steps {
            match step {
                Step::Read(access) => prop_assert_eq!(plugin.rdmsr(access), model.read(access)),
                Step::Write(access, value) => {
                    prop_assert_eq!(plugin.wrmsr(access, value), model.write(access, value));
                }
                Step::Reset => {
                    plugin.reset();
                    model.history.clear();
                }
            }
        }
        // Whatever the history, another instance can restore it.
        let mut heir: UnknownLog = host.load_for(None, &config).unwrap();
        heir.restore(&host.save(&plugin, "0.1.0").unwrap()).unwrap();
        prop_assert_eq!(&heir.stored, &plugin.stored);
        // And the rules are printed in a form that can be read again.
        let shown: Vec<String> = plugin.rules.iter().map(ToString::to_string).collect();
        let text = format!("rules = [{}]", shown.join(","));
        let again: toml::Value = toml::from_str(&text).unwrap();
        let again: UnknownLog =
            host.load_for(None, &serde_json::to_string(&again).unwrap()).unwrap();
        prop_assert!(again.rules.iter().eq(plugin.rules.iter()));
    }
}
