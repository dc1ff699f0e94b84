//! With the learned lines the guest gets the same answers without learning.

use std::string::ToString;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

const LEARN: &str = r#"{"learn": true}"#;

#[test]
fn a_learning_plugin_answers_everything() {
    let mut plugin = loaded(LEARN);
    assert_eq!(plugin.rdmsr(unknown(0x606)), Ok(0));
    assert_eq!(plugin.wrmsr(invalid(0x2ff), u64::MAX), Ok(()));
    assert_eq!(plugin.rdmsr(invalid(0x2ff)), Ok(u64::MAX));
    assert_eq!(plugin.rdmsr(on(0x2ff, 1, Reason::Invalid)), Ok(0));
}

#[test]
fn rules_come_before_learning() {
    let mut plugin = loaded(
        r#"{"learn": true, "rules": [{"range": "0x606", "read": "fault", "write": "pass"}]}"#,
    );
    assert_eq!(plugin.rdmsr(unknown(0x606)), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(unknown(0x606), 1), Err(Otherwise::Pass));
    assert_eq!(plugin.lessons.as_ref().unwrap().iter().count(), 0);
}

#[test]
fn the_report_is_lines_for_the_profile() {
    let mut plugin = loaded(
        r#"{"learn": true, "rules": [{"range": "0x1-0x2", "read": "fault", "write": "fault"}]}"#,
    );
    for msr in [0x606, 0x606, 0xc001_0200, 0xc001_0201, 0xc001_0203, 1] {
        let _ = plugin.rdmsr(unknown(msr));
    }
    for value in [0x2, 0x0, 0x8000_0000_0000_0000] {
        plugin.wrmsr(unknown(0x4e), value).unwrap();
        let _ = plugin.rdmsr(unknown(0x4e));
    }
    plugin.wrmsr(invalid(0x2ff), 2).unwrap();
    // Never read, or only as 0: nothing needs to be stored.
    plugin.wrmsr(unknown(0x1b0), 6).unwrap();
    plugin.wrmsr(unknown(0x1b1), 0).unwrap();
    let _ = plugin.rdmsr(unknown(0x1b1));
    assert_eq!(
        plugin.report(),
        r#"# unknown-log: these lines replace this plugin's entry in the profile; they give
# this guest the same answers. Check each of them first.

# Better than the lines below for 0x606 (MSR_RAPL_POWER_UNIT): rapl, which shows power units, limits and energy, by a model or from the host's counters.
# Its entry, to be completed as its README says:
#     path = "rapl.wasm"
#     config.model.package = { idle-mw = 12000, vcpu-mw = 8000 }

# Better than the lines below for 0x1b0 (IA32_ENERGY_PERF_BIAS), 0x1b1 (IA32_PACKAGE_THERM_STATUS): frequency, which answers frequency, turbo and thermal registers that agree with each other.
# Its entry, to be completed as its README says:
#     path = "frequency.wasm"
#     config.vendor = "intel"   # its README has the speeds to choose, and hwp

# Better than the lines below for 0xc0010200 (MSR_F15H_PERF_CTL0): amd-compat, which answers AMD's MSRs that guests expect and KVM refuses.
# Its entry, to be completed as its README says:
#     path = "amd_compat.wasm"
#     grant = ["kvm-msr"]

# Better than the lines below for 0x4e (MSR_PPIN_CTL), 0x2ff (IA32_MTRR_DEF_TYPE): registers, which is any register as data: values, and the rule of each bit.
# Its entry, to be completed as its README says:
#     path = "registers.wasm"
#     config.registers = [   # its README has tables to copy
#         { range = "0x4e", value = 0 },
#         { range = "0x2ff", value = 0 },
#     ]

# 0x1b0 (IA32_ENERGY_PERF_BIAS): 1 write of 0x6
[[msr.override]]
range = "0x1b0"
write = "ignore"

# 0x1b1 (IA32_PACKAGE_THERM_STATUS): 1 read, 1 write of 0x0
[[msr.override]]
range = "0x1b1"
read = "ignore"
write = "ignore"

# 0x2ff (IA32_MTRR_DEF_TYPE): 1 write of 0x2; KVM knows it and refuses
[[msr.override]]
range = "0x2ff"
write = "ignore"

# 0x606 (MSR_RAPL_POWER_UNIT): 2 reads
[[msr.override]]
range = "0x606"
read = "ignore"

# 0xc0010200-0xc0010201, from MSR_F15H_PERF_CTL0 on: 2 reads
[[msr.override]]
range = "0xc0010200-0xc0010201"
read = "ignore"

# 0xc0010203 (MSR_F15H_PERF_CTR1): 1 read
[[msr.override]]
range = "0xc0010203"
read = "ignore"

[[plugin]]
path = "unknown_log.wasm"   # its path
config.rules = [
    { range = "0x1-0x2", read = "fault", write = "fault" },
    # 0x4e (MSR_PPIN_CTL): 3 reads, 3 writes, first 0x2, last 0x8000000000000000
    { range = "0x4e", read = "stored", write = "store" },
]
# unknown-log: end"#
    );
}

#[test]
fn a_guest_that_asks_for_nothing_needs_no_lines() {
    let report = loaded(LEARN).report();
    assert!(report.lines().all(|line| line.starts_with('#')), "{report}");
    assert!(report.contains("asked for nothing"), "{report}");
}

#[test]
fn a_walk_is_answered_and_said_to_be_incomplete() {
    let mut plugin = loaded(LEARN);
    for msr in (0..10_000).map(|step| step * 3) {
        assert_eq!(plugin.rdmsr(unknown(msr)), Ok(0));
        assert_eq!(plugin.wrmsr(unknown(msr), 1), Ok(()));
    }
    // There is no room for values left, but the guest goes on.
    assert_eq!(plugin.wrmsr(unknown(u32::MAX), 1), Ok(()));
    assert_eq!(plugin.rdmsr(unknown(u32::MAX)), Ok(0));
    let report = plugin.report();
    assert!(report.contains("no room to remember 19490 accesses"), "{report}");
    assert!(report.contains("no room to store 8977 values"), "{report}");
}

/// Teaches a plugin as much as it can remember, with MSRs that are not
/// neighbours; values are read back, or not.
fn taught_everything(values_are_read_back: bool) -> UnknownLog {
    let mut plugin = loaded(&format!(r#"{{"learn": true, "rules": [{}]}}"#, longest_rules()));
    for step in 0..u32::try_from(lessons::MOST).unwrap() {
        let msr = 0xc000_0000 + 2 * step;
        if !values_are_read_back {
            plugin.rdmsr(unknown(msr)).unwrap();
        }
        plugin.wrmsr(invalid(msr), u64::MAX).unwrap();
        plugin.wrmsr(invalid(msr), u64::MAX).unwrap();
        if values_are_read_back {
            plugin.rdmsr(unknown(msr)).unwrap();
        }
    }
    plugin
}

#[test]
fn the_longest_report_is_one_that_the_host_takes() {
    const HOST_TAKES: usize = 64 << 10;
    for values_are_read_back in [true, false] {
        let length = taught_everything(values_are_read_back).report().len();
        assert!(length < HOST_TAKES, "{length}");
    }
}

/// A profile, limited to what the report contains.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(default)]
    msr: Policy,
    #[serde(default)]
    plugin: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    #[serde(rename = "override")]
    overrides: Vec<Override>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    range: String,
    read: Option<String>,
    write: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    config: toml::Value,
}

impl Override {
    fn covers(&self, msr: MsrIndex) -> bool {
        let (first, last) = self.range.split_once('-').unwrap_or((&self.range, &self.range));
        let number =
            |text: &str| u32::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
        (number(first)..=number(last)).contains(&msr.0)
    }
}

/// A VM of that profile: the plugin if it has one, then the policy.
struct Vm {
    plugin: Option<UnknownLog>,
    overrides: Vec<Override>,
}

impl Vm {
    fn of(host: &Host, text: &str) -> Self {
        let mut profile: Profile = toml::from_str(text).unwrap();
        let plugin = profile.plugin.pop().map(|entry| {
            assert_eq!(entry.path, "unknown_log.wasm");
            host.load_for(None, &serde_json::to_string(&entry.config).unwrap()).unwrap()
        });
        assert!(profile.plugin.is_empty());
        Vm { plugin, overrides: profile.msr.overrides }
    }

    fn does(&mut self, access: Access, write: Option<u64>) -> Result<u64, Otherwise> {
        let answer = self.plugin.as_mut().map_or(Err(Otherwise::Pass), |plugin| match write {
            Some(value) => plugin.wrmsr(access, value).map(|()| 0),
            None => plugin.rdmsr(access),
        });
        let ignored = self.overrides.iter().filter(|o| o.covers(access.index)).find_map(|o| {
            let action = if write.is_some() { &o.write } else { &o.read };
            action.as_deref().map(|action| assert_eq!(action, "ignore"))
        });
        match (answer, ignored) {
            (Err(Otherwise::Pass), Some(())) => Ok(0),
            (answer, _) => answer,
        }
    }
}

proptest! {
    #[test]
    fn the_learned_lines_do_what_learning_did(
        steps in prop::collection::vec((0..12_u32, 0..2_u32, any::<bool>(), 0..5_u64), 0..80),
        ruled in any::<bool>(),
    ) {
        let host = Host::fresh();
        let rule = r#"{"range": "0x3-0x4", "read": "stored", "write": "store", "value": 9}"#;
        let rules = if ruled { rule } else { "" };
        let config = format!(r#"{{"learn": true, "rules": [{rules}]}}"#);
        let mut learning: UnknownLog = host.load_for(None, &config).unwrap();
        let mut taught = Vec::new();
        for &(msr, vcpu, known, what) in &steps {
            let reason = if known { Reason::Invalid } else { Reason::Unknown };
            let access = on(msr, vcpu, reason);
            // 0 and 1 are reads, 2 writes a 0.
            let write = what.checked_sub(2);
            let answer = match write {
                Some(value) => learning.wrmsr(access, value).map(|()| 0),
                None => learning.rdmsr(access),
            };
            prop_assert!(answer.is_ok());
            taught.push((access, write, answer));
        }
        let report = learning.report();
        let mut vm = Vm::of(&host, &report);
        for (access, write, answer) in taught {
            prop_assert_eq!(vm.does(access, write), answer, "{:?}\n{}", access, report.to_string());
        }
    }
}
