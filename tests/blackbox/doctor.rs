//! `wasmsr doctor`: whether a host is fit.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::fixture::{Outcome, Run, Workdir, require_kvm, trials};
use crate::no_kvm;

pub(crate) fn trials() -> Vec<Trial> {
    trials![a_host_that_is_fit, for_programs, without_kvm, a_cache_that_cannot_be_used]
}

/// The verdict on a point, from the table.
fn verdict<'a>(run: &'a Run, point: &str) -> &'a str {
    let line = run.stdout.lines().find(|line| line.starts_with(point));
    let line = line.unwrap_or_else(|| panic!("nothing is said of {point}:\n{run}"));
    line[point.len()..].split_whitespace().next().unwrap_or_default()
}

fn a_host_that_is_fit() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor"]).exited(0);
    for point in ["kernel", "/dev/kvm", "MSR filter", "vCPUs"] {
        assert_eq!(verdict(&run, point), "good", "{point}:\n{run}");
    }
    assert!(run.stdout.contains("16 ranges of 12288 MSRs"), "{run}");
    Ok(())
}

fn for_programs() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report.get("fit"), Some(&Value::Bool(true)), "{run}");
    let findings = report.get("findings").and_then(Value::as_array).expect("a list");
    let tells = |finding: &Value| finding.get("found").is_some_and(Value::is_string);
    assert!(!findings.is_empty() && findings.iter().all(tells), "{run}");
    Ok(())
}

fn without_kvm() -> Outcome {
    let run = no_kvm::without_devices("doctor")?.exited(12);
    assert_eq!(verdict(&run, "/dev/kvm"), "unfit", "{run}");
    assert!(run.stdout.contains("cargo xtask nested"), "no remedy:\n{run}");
    Ok(())
}

fn a_cache_that_cannot_be_used() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor", "--cache-dir", "/dev/null/x"]).exited(0);
    assert_eq!(verdict(&run, "cache"), "limited", "{run}");
    Ok(())
}
